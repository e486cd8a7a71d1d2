"""The command line `x2x`: one verb per command, thin.

What cannot be used ends with one line on stderr and exit code 2, cheap checks first. Everything that needs torch is
imported only when a model is about to be loaded, so that help and refusals come at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from instructx2x import __version__
from instructx2x.cli import (
    audit,
    batch,
    convert,
    dataset,
    editing,
    evaluation,
    info,
    masks,
    training,
    verify,
    vocabulary,
)
from instructx2x.cli.console import refuse
from instructx2x.errors import of_the_user

# What a command raises for wrong flags and arguments; older typers take the class from click, newer ones carry it.
UsageError = typer.BadParameter.__base__

_ENDED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}

app = typer.Typer(
    name="x2x",
    help=(
        "Counterfactual chest X-rays by instruction: the same patient with only the named finding changed, and a map "
        "of where the model edited. Research only, not for diagnosis.\n\n"
        "Start with `x2x demo -o out`, then try your own image:\n\n"
        '`x2x edit chest.png "Add the finding of left pleural effusion." -o out`'
    ),
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)

for command in (
    *(editing.edit, batch.batch, editing.guidance, editing.demo, verify.verify),
    *(training.train, evaluation.evaluate, audit.audit, convert.convert, info.info),
    vocabulary.vocabulary,
):
    app.command()(command)
for family in (dataset.app, masks.app):
    app.add_typer(family)


class Stopped(BaseException):
    """A signal that ends the command. No Exception, so that nothing takes it for a failure of its own and goes on."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let Ctrl-C and a request to terminate end the work in order: what is being written is finished or taken away."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    if threading.current_thread() is not threading.main_thread():  # the only one that may
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 done, 2 refused, 130 interrupted (Ctrl-C), 143 terminated, 141 nobody reads what it says any more (as `| head`
    does), and 1 for nothing but a defect of this program.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    _say_anything()
    try:
        with _stoppable():
            if (code := _run(words)) == 128 + signal.SIGINT:  # typer's answer to an interrupt that a library raised
                raise KeyboardInterrupt
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is told here, and not by Python as it ends
        return code
    except BrokenPipeError:
        _leave_stdout()
        return 141
    except (Stopped, KeyboardInterrupt) as stopped:
        number = stopped.args[0] if isinstance(stopped, Stopped) else signal.SIGINT
        with contextlib.suppress(OSError):
            print(f"{_ENDED[number]}: run the same command again to go on or to start over", file=sys.stderr)
        return 128 + number
    except OSError as error:
        _leave_stdout()
        return refuse(f"standard output cannot be written to ({error.strerror})", 2)


def _run(words: list[str]) -> int:
    if any("\0" in word for word in words):
        return refuse("a word of the command holds a NUL character, which no name and no instruction can", 2)
    try:
        with warnings.catch_warnings():
            if not os.environ.get("X2X_DEBUG"):
                # Libraries warn their developers; what a user must know is in the result or in the error.
                warnings.simplefilter("ignore")
            return app(args=words, prog_name="x2x", standalone_mode=False) or 0
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "x2x"
        return refuse(f"{error.format_message().rstrip('.')}: see {command} --help", 2)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        raise
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer's answer to it
            raise error.__context__ from None
        # Only code of others that a command was told to run leaves in this way.
        return refuse(f"code that the command was told to run ended it (sys.exit, {error.code}): it must return", 2)
    except Exception as error:
        if (acted_on := of_the_user(error)) is not None:
            return refuse(str(acted_on), 2)
        if os.environ.get("X2X_DEBUG"):
            traceback.print_exc()
            return 1
        kind = type(error).__name__
        return refuse(f"{kind}: {error} - a defect of x2x: please report it with what X2X_DEBUG=1 shows", 1)


def _say_anything() -> None:
    """A name that the terminal's encoding lacks is escaped, where Python would end with an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _leave_stdout() -> None:
    """What waits to be written goes nowhere: Python would try again as it ends, and complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"x2x {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)
