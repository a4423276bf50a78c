"""The pages of ``--help``: an option a line and its text below, readable from 40 columns on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import typer.core
from rich.console import Console
from rich.text import Text

from symfx.cli.console import console_for

__all__ = ["PlainCommand", "PlainGroup", "print_page"]

#: Text of more columns is tiring to read.
_WIDEST = 100


class PlainCommand(typer.core.TyperCommand):
    """A command whose ``--help`` is printed by this module."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page; click calls this."""
        print_page(self, ctx)


class PlainGroup(typer.core.TyperGroup):
    """A group of a few commands whose ``--help`` is printed by this module."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page; click calls this."""
        found = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        first = {
            name: inspect.cleandoc(command.help or "").partition("\n\n")[0]
            for name, command in found.items()
            if command is not None
        }
        print_page(self, ctx, {"Commands": first})


def print_page(
    command: Any, context: Any, commands: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Print the usage of a command, its text, its arguments and its options.

    Args:
        command: a command or a group of typer.
        context: its context.
        commands: the commands of a group: the sentences by command, for the title of each set.
    """
    commands = commands or {}
    console = console_for(widest=_WIDEST)
    console.print(Text.assemble(("Usage: ", "bold"), f"{context.command_path} {_usage(command)}"))
    console.print()
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        heading, _, below = paragraph.partition("\n")
        if heading.endswith(":") and below.startswith(" "):
            console.print(Text(heading.removesuffix(":"), style="bold"))
            # Lines to copy are printed as they are.
            lines = inspect.cleandoc("\n" + below).splitlines()
            console.print(Text("\n".join(f"  {line}" for line in lines), "cyan"), soft_wrap=True)
        else:
            _print_beside(console, Text(), " ".join(paragraph.split()))
        console.print()
    shown = [p for p in command.get_params(context) if not getattr(p, "hidden", False)]
    width = max((len(name) for group in commands.values() for name in group), default=0)
    for title, group in commands.items():
        console.print(Text(title, style="bold"))
        for name, summary in group.items():
            _print_beside(console, Text(f"  {name:<{width}}  ", style="bold cyan"), summary)
        console.print()
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        entries = [_entry(p) for p in shown if p.param_type_name == kind]
        if entries:
            console.print(Text(title, style="bold"))
            for head, text in entries:
                console.print(Text("  ").append_text(head), soft_wrap=True)
                _print_beside(console, Text(" " * 6), text)
            console.print()


def _print_beside(console: Console, head: Text, text: str) -> None:
    """Print a head, and a text beside it that is wrapped."""
    for line in Text(text).wrap(console, console.width - head.cell_len):
        line.rstrip()
        console.print(head.copy().append_text(line), soft_wrap=True)
        head = Text(" " * head.cell_len)


def _usage(command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument" and not p.hidden]
    words = [_metavar(p) if p.required else f"[{_metavar(p)}]" for p in arguments]
    if isinstance(command, typer.core.TyperGroup):
        words.append("COMMAND ...")
    return " ".join(["[OPTIONS]", *words])


def _metavar(param: Any) -> str:
    name: str = param.metavar or param.name.upper()
    return name


def _entry(param: Any) -> tuple[Text, str]:
    """How a parameter is written, and what it means."""
    text = " ".join((param.help or "").split())
    if param.param_type_name == "argument":
        return Text(_metavar(param), style="bold cyan"), text
    # The short name first, and then the long ones: -q, --quiet; --graph, --no-graph.
    head = Text(", ".join([*sorted(param.opts, key=len), *param.secondary_opts]), "bold cyan")
    if not param.is_flag and not param.count:
        head.append(f" {_metavar(param)}", "yellow")
    notes = list(_notes(param))
    return head, f"{text} [{'; '.join(notes)}]" if notes else text


def _notes(param: Any) -> Iterator[str]:
    default = param.default
    if param.show_default and default is not None and not param.is_flag and not callable(default):
        yield f"default: {getattr(default, 'value', default)}"
    if param.envvar:
        yield f"environment variable: {param.envvar}"
    if param.required:
        yield "required"
