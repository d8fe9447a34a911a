"""The choice of a provider, for every kind of machine."""

import pytest

from devcluster.errors import DevclusterError
from devcluster.providers import Machine, ProviderName, choose


def machine(
    kubeconfig: str = "", engine: str | None = None, is_linux: bool = True, is_root: bool = True
) -> Machine:
    return Machine(kubeconfig=kubeconfig, context="", engine=engine, is_linux=is_linux, is_root=is_root)


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (machine(kubeconfig="/c"), ProviderName.KUBECONFIG),
        (machine(kubeconfig="/c", engine="docker"), ProviderName.KUBECONFIG),
        (machine(engine="docker"), ProviderName.KIND),
        (machine(engine="podman", is_linux=False, is_root=False), ProviderName.KIND),
        (machine(), ProviderName.EMBEDDED),
    ],
)
def test_the_first_that_applies_is_taken(here: Machine, expected: ProviderName) -> None:
    assert choose(here) is expected


def test_the_choice_can_be_forced_against_the_order() -> None:
    assert choose(machine(kubeconfig="/c", engine="docker"), ProviderName.EMBEDDED) is ProviderName.EMBEDDED


@pytest.mark.parametrize("here", [machine(is_root=False), machine(is_linux=False)])
def test_where_nothing_can_be_had_every_way_out_is_named(here: Machine) -> None:
    with pytest.raises(DevclusterError) as error:
        choose(here)
    for name in ProviderName:
        assert f"  {name}: " in str(error.value)


@pytest.mark.parametrize("forced", list(ProviderName))
def test_a_forced_provider_that_cannot_work_says_what_it_needs(forced: ProviderName) -> None:
    with pytest.raises(DevclusterError, match=f"provider {forced} cannot be used"):
        choose(machine(is_root=False), forced)
