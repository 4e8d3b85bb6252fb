"""The files of committed numbers: JSON with one line an entry, sorted, so that a change shows in a diff."""

import json
import pathlib

FOLDER = pathlib.Path(__file__).resolve().parent
UPDATE = "python -m bench gates --update"


def load(name):
    """The content of a file, {} where there is none: a dict of groups, each a dict from an entry's name to its numbers.

    Args:
        name: "sass" or "trace".
    """
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def dump(name, content):
    """Write a file.

    Args:
        name: As for load().
        content: What load() is to return.
    """
    (FOLDER / f"{name}.json").write_text(written(content), encoding="utf-8")


def written(content):
    """The text of a file."""
    groups = []
    for group, entries in sorted(content.items()):
        lines = [f"    {json.dumps(entry)}: {json.dumps(numbers)}" for entry, numbers in sorted(entries.items())]
        groups.append(f"  {json.dumps(group)}: {{\n" + ",\n".join(lines) + "\n  }")
    return "{\n" + ",\n".join(groups) + "\n}\n"
