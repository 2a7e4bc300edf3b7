"""What the README starts with."""

import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_first_commands_are_those_of_the_demo_and_the_tests():
    first = re.search(r"```console\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    commands = [line.split("#")[0].strip() for line in first[1].splitlines()]
    assert commands == ["make demo", "make test"]
