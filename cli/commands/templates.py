"""`perdure template`: Blueprints with parameters, bundled ones and the organisation's own."""

# ruff: noqa: PLC0415 - see the package: what a command needs is loaded when it runs
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.completion import template_names
from cli.files import read_mapping
from cli.options import OutputOption, PlanOption, TimeoutOption, WaitOption, assignments
from cli.output import OutputFormat, emit, tell, to_yaml
from cli.session import session_of

if TYPE_CHECKING:
    from pydantic import JsonValue


app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
_HAS = "It has `name`, `parameters` and `blueprint`."
TemplateArgument = Annotated[
    str,
    typer.Argument(metavar="NAME|ID", help="Name or id of the template.", autocompletion=template_names),
]
TemplateFile = Annotated[
    Path,
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="Template in YAML or JSON (name, parameters, blueprint); - reads standard input.",
    ),
]


@app.command("list")
def list_templates(context: typer.Context, output: OutputOption = OutputFormat.TABLE) -> None:
    """List the bundled templates and the organisation's own."""
    from cli import views

    with session_of(context).client() as client:
        answer = client.templates()
    emit(output, answer.raw, views.template_list(answer.value))


@app.command("get")
def get(
    context: typer.Context, template: TemplateArgument, output: OutputOption = OutputFormat.TABLE
) -> None:
    """Show a template with its parameters; `-o yaml` shows its Blueprint too."""
    from cli import views

    with session_of(context).client() as client:
        answer = client.template(template)
    emit(output, answer.raw, views.template(answer.value))


@app.command("create")
def create(context: typer.Context, file: TemplateFile, output: OutputOption = OutputFormat.TABLE) -> None:
    """Keep a template for the organisation."""
    from cli import views

    body = read_mapping(file, "template", _HAS)
    with session_of(context).client() as client:
        answer = client.create_template(body)
    emit(output, answer.raw, views.template(answer.value))


@app.command("update")
def update(
    context: typer.Context,
    template: TemplateArgument,
    file: TemplateFile,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Replace a template. Environments made of it stay as they are."""
    from cli import views

    body = read_mapping(file, "template", _HAS)
    with session_of(context).client() as client:
        answer = client.update_template(template, body)
    emit(output, answer.raw, views.template(answer.value))


@app.command("delete")
def delete(context: typer.Context, template: TemplateArgument) -> None:
    """Delete a template. Environments made of it stay as they are."""
    with session_of(context).client() as client:
        client.delete_template(template)
    tell(f"Template {template} deleted.")


@app.command("instantiate")
def instantiate(
    context: typer.Context,
    template: TemplateArgument,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Value of a parameter. May be repeated."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the environment.")] = None,
    plan: PlanOption = None,
    create: Annotated[bool, typer.Option("--create", help="Create the environment at once.")] = False,
    wait: WaitOption = True,
    timeout: TimeoutOption = None,
    output: OutputOption = OutputFormat.TABLE,
) -> None:
    """Make a Blueprint of a template, printed as YAML.

    With --create it becomes an environment too, and the output is that of `perdure env create`. --wait and
    --timeout count only then.
    """
    from cli import views
    from cli.client import Answer
    from cli.commands.environments import finish_creation
    from cli.text import typed_values

    with session_of(context).client() as client:
        types = {each.name: each.type for each in client.template(template).value.parameters}
        values = typed_values(types, assignments("--set", given))
        body: dict[str, JsonValue] = {"parameters": {**values}, "name": name, "plan": plan, "create": create}
        answer = client.instantiate_template(template, body)
        found = answer.value
        tell(*views.import_remarks(found))
        if found.environment is not None and isinstance(answer.raw, dict):
            raw = answer.raw.get("environment")
            finish_creation(client, Answer(found.environment, raw), wait, timeout, output)
            return
    emit(output, answer.raw, [(found.yaml or to_yaml(found.blueprint)).rstrip("\n")])
