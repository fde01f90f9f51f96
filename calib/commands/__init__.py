"""The command line: `psfbank COMMAND`, one module a command, one library call each.

Results go to stdout, progress and log to stderr. Exit codes: 0 ok; 1 an error in one readable sentence; 2 wrong usage;
3 a requirement that is not met; 4 an unsafe or corrupt bank; 130 interrupted. Numerical libraries load inside the
commands: help answers at once.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from calib.commands import _console
from calib.commands.calibrate import calibrate
from calib.commands.compare import compare
from calib.commands.export import export
from calib.commands.info import info
from calib.commands.inspect import inspect
from calib.commands.plot import plot
from calib.commands.report import report
from calib.commands.sfr import sfr
from calib.commands.simulate import simulate
from calib.commands.synth import synth
from calib.commands.targets import targets
from calib.commands.undistort import undistort
from calib.commands.verify import verify
from psfbank import __version__
from psfbank.errors import CorruptBankError, PsfBankError, UnsafeBankError, UnsupportedSchemaError

_VERBOSE = ("-v", "--verbose")
_BAD_BANK = (CorruptBankError, UnsafeBankError, UnsupportedSchemaError)


class _Group(TyperGroup):
    """Takes `-v` in any place, and turns exceptions into exit codes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        quiet = [word for word in args[:end] if word not in _VERBOSE]
        hoisted = ["--verbose"] if len(quiet) < end else []
        return super().parse_args(ctx, [*hoisted, *quiet, *args[end:]])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PsfBankError as error:
            _console.fail(error, str(error))
            raise typer.Exit(4 if isinstance(error, _BAD_BANK) else 1) from error
        except BrokenPipeError:  # the reader of our output left: no error of ours
            raise
        except OSError as error:
            _console.fail(error, f"{error.filename}: {error.strerror}" if error.filename else str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            _console.fail(error, "interrupted")
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"psfbank {__version__}")
        raise typer.Exit


@app.callback()
def _psfbank(
    verbose: Annotated[bool, typer.Option(*_VERBOSE, help="Log more, and show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure what a camera's lens and sensor do to light, store it as a PSF bank, and replay it."""
    _console.set_up_logging(verbose)


_COMMANDS = (
    sfr,
    inspect,
    calibrate,
    synth,
    info,
    verify,
    simulate,
    undistort,
    export,
    compare,
    targets,
    report,
    plot,
)
for _command in _COMMANDS:
    app.command()(_command)


def main() -> None:
    """Run the command line; ends the process with the exit code."""
    app(prog_name="psfbank")
