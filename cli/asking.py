"""Asking before what cannot be taken back."""

import sys

import typer


def confirm(question: str, *, yes: bool) -> None:
    """Ask a terminal, unless it was answered beforehand (`yes`); ends the command (exit code 1) on a no.

    What is no terminal is not asked: there is nobody to answer.
    """
    if not yes and on_terminal():
        typer.confirm(question, err=True, abort=True)


def on_terminal() -> bool:
    """Whether somebody sits at standard input."""
    return sys.stdin.isatty()
