# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the variables that somebody gave: misspelt, empty, of no use. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CLOSE = 0.8
# set_stats of our playbooks: a workflow hands them to its next job as extra variables.
HANDED_ON = "llmd_gke_"

Json = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """One variable that cannot be meant as it was given."""

    code: str
    name: str
    why: str
    remedy: str

    def text(self) -> str:
        return f"{self.code}: {self.name}: {self.why}\nWhat now: {self.remedy}"


def nearest(name: str, known: Iterable[str], prefix: str) -> str | None:
    """The known name that ``name`` was probably meant to be; their common prefix does not count as likeness."""
    short = {one.removeprefix(prefix): one for one in known}
    found = difflib.get_close_matches(name.removeprefix(prefix), short, n=1, cutoff=CLOSE)
    return short[found[0]] if found else None


def is_ours(name: str, prefix: str, other_prefixes: Iterable[str] = ()) -> bool:
    """Whether a variable claims to be one that a role documents: its prefix, and neither internal nor handed on.

    ``other_prefixes`` are those of other roles that begin with this one (``llmd_helmfile_``, ``llmd_``).
    """
    longer = tuple(other for other in other_prefixes if len(other) > len(prefix))
    return name.startswith(prefix) and not name.startswith((prefix + "_", HANDED_ON, *longer))


def misspelt(
    names: Iterable[str], known: Iterable[str], prefix: str, place: str, others: Iterable[str] = ()
) -> list[Problem]:
    """Names with the prefix that nothing documents but that are close to one that is documented."""
    documented, longer = set(known), tuple(others)
    problems = []
    for name in sorted(set(names) - documented):
        meant = nearest(name, documented, prefix) if is_ours(name, prefix, longer) else None
        if meant:
            problems.append(
                Problem(
                    "VARIABLE_MISSPELT",
                    name,
                    f"no such variable is read; it was given in {place}.",
                    f"write {meant}, if that is what you meant.",
                )
            )
    return problems


def strangers(names: Iterable[str], known: Iterable[str], prefix: str, others: Iterable[str] = ()) -> list[str]:
    """Names with the prefix that nothing documents and that are close to none: worth a warning."""
    documented, longer = set(known), tuple(others)
    found = (name for name in set(names) - documented if is_ours(name, prefix, longer))
    return sorted(name for name in found if nearest(name, documented, prefix) is None)


def emptied(given: Mapping[str, Any], options: Mapping[str, Json]) -> list[Problem]:
    """Empty answers of a survey for what must not be empty: an empty string is a value, so no default steps in."""
    problems = []
    for name in sorted(set(given) & set(options)):
        option = options[name]
        # An empty secret is judged where it is needed; that error knows where to get one.
        needed = option.get("required") or option.get("default") not in (None, "", [], {})
        if given[name] == "" and needed and not option.get("no_log"):
            default = option.get("default")
            leave = f"leave it out: its default is {default}." if default is not None else "give it a value."
            problems.append(Problem("VARIABLE_EMPTY", name, "it was given as an empty text.", leave))
    return problems


def structured(given: Mapping[str, Any], options: Mapping[str, Json]) -> list[Problem]:
    """Texts where a dictionary or list is needed: a survey and ``-e name=value`` can only give texts."""
    problems = []
    for name in sorted(set(given) & set(options)):
        kind = options[name].get("type", "str")
        if kind in ("dict", "list") and isinstance(given[name], str) and given[name] != "":
            problems.append(
                Problem(
                    "VARIABLE_NOT_STRUCTURED",
                    name,
                    f"a {kind} is needed, and a text was given.",
                    f"give it as JSON or YAML: -e '{{\"{name}\": ...}}', an inventory, a job template's variables.",
                )
            )
    return problems


def numbers(given: Mapping[str, Any], options: Mapping[str, Json]) -> list[Problem]:
    """Texts that are no number where one is needed."""
    convert: dict[str, Callable[[str], Any]] = {"int": int, "float": float}
    problems = []
    for name in sorted(set(given) & set(options)):
        kind, value = options[name].get("type", "str"), given[name]
        if kind not in convert or value == "" or not isinstance(value, str):
            continue
        try:
            convert[kind](value)
        except ValueError:
            meant = "a whole number" if kind == "int" else "a number"
            problems.append(
                Problem("VARIABLE_NOT_A_NUMBER", name, f"{meant} is needed, not {value!r}.", f"give {meant}.")
            )
    return problems


def problems_of(
    given: Mapping[str, Any], elsewhere: Iterable[str], options: Mapping[str, Json], roles: Iterable[str] = ()
) -> list[Problem]:
    """Everything wrong with the ``llmd_`` variables: ``given`` as extra variables, or named ``elsewhere``.

    ``options`` are the documented ones, each with the default that it really has; ``roles`` all roles there are.
    """
    prefixes = tuple(f"{role}_" for role in roles)
    found = misspelt(given, options, "llmd_", "the extra variables", prefixes)
    found += misspelt(set(elsewhere) - set(given), options, "llmd_", "the inventory", prefixes)
    return [*found, *emptied(given, options), *structured(given, options), *numbers(given, options)]
