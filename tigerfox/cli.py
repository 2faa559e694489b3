"""The command ``tigerfox``: a table of verbs.

A verb's body calls one function and shows its result; the work is done elsewhere, imported when the verb runs, so that
``tigerfox replay`` does not load what only ``tigerfox start`` needs. Exit codes: 0 done, 1 the work failed, 2 usage,
3 missing privilege or kernel feature.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tigerfox._version import __version__
from tigerfox.errors import TigerFoxError

EXITS = "Exit codes: 0 done, 1 the work failed, 2 usage, 3 missing privilege or kernel feature."

app = typer.Typer(no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode=None,
                  epilog=EXITS, help="Multi-queue NFQUEUE firewall and intrusion prevention.")
rules_app = typer.Typer(no_args_is_help=True, epilog=EXITS, help="Check rule files, list the keywords.")
blocks_app = typer.Typer(no_args_is_help=True, epilog=EXITS, help="Show and change who is blocked.")
inspector_app = typer.Typer(no_args_is_help=True, epilog=EXITS, help="Python inspectors: begin one.")
app.add_typer(rules_app, name="rules")
app.add_typer(blocks_app, name="blocks")
app.add_typer(inspector_app, name="inspector")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def main():
    """Run a verb; turn TigerFox's own errors into a message and an exit code."""
    try:
        app()
    except TigerFoxError as error:
        typer.echo(f"tigerfox: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def print_version(wanted: bool):
    """Print the version and end, for ``--version``."""
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options_of_all(
    version: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")] = False,
):
    """Multi-queue NFQUEUE firewall and intrusion prevention."""


@app.command(epilog=EXITS)
def version():
    """Print the version."""
    typer.echo(__version__)


@app.command(epilog=EXITS)
def doctor(run_dir: Annotated[str, typer.Option(help="Look at the instance that runs there.")] = "", as_json: AsJson = False):
    """Examine kernel, privileges, limits, tools and a running instance, each with what mends it. Changes nothing."""
    from tigerfox.control import doctor as examiner

    findings = examiner.examine(run_dir or None)
    typer.echo(examiner.render(findings, as_json))
    raise typer.Exit(examiner.exit_code(findings))


@app.command("dissect", epilog=EXITS)
def dissect_verb(
    pcap: Annotated[Path, typer.Argument(readable=False, help="A pcap or pcapng file.")],
    as_json: Annotated[bool, typer.Option("--json", show_default=False,
                                         help="Accepted for symmetry: the output is always JSON lines.")] = True,
):
    """Print the parser's view of a capture: one JSON object per packet."""
    from tigerfox.offline.dissect import dissect

    dissect(pcap)


RunDir = Annotated[str, typer.Option(help="Run directory; the default is /run/tigerfox.", show_default=False)]
RuleFiles = Annotated[list[str], typer.Option("--rules", help="A rule file or a folder of *.rules; may be repeated.")]
Variables = Annotated[list[str], typer.Option("--var", help="NAME=VALUE, a rule variable; VALUE @FILE reads a list.")]


@app.command(epilog=EXITS)
def start(
    more: Annotated[list[str], typer.Argument(metavar="PATH", help="More rule files.", show_default=False)] = None,
    queues: Annotated[str, typer.Option(help='NFQUEUE numbers, "0:7" or "0:3,8"; one worker each.')] = None,
    rules: RuleFiles = None,
    var: Variables = None,
    pin: Annotated[str, typer.Option(help='"auto", "none", or CPUs as "2-5,7".')] = None,
    fail: Annotated[str, typer.Option(help="open or closed: let packets pass that cannot be judged, or drop them.")] = None,
    config: Annotated[str, typer.Option(help="TOML file; options override it.")] = None,
    daemon: Annotated[bool, typer.Option("--daemon", help="Return when ready, and stay in the background.")] = False,
    iptables: Annotated[bool, typer.Option(
        "--iptables", help="Add the iptables chain, remove it at stop.")] = None,
    hook: Annotated[str, typer.Option(help="forward (the default), input or output: the last two can lock you out.")] = None,
    bypass: Annotated[str, typer.Option(
        help="on (the default) or off: with --iptables, leave to the kernel what no rule can match any more.")] = None,
    fanout: Annotated[str, typer.Option(help="balance (by addresses), flow (by connection) or cpu.")] = None,
    offload: Annotated[str, typer.Option(
        help="on or off: drop what is blocked in the kernel, before the queues (on where nf_tables and nft are there).")] = None,
    allow: Annotated[list[str], typer.Option(
        help="ADDRESS[/PREFIX][:PORT] whose TCP is never queued; may be repeated.")] = None,
    inspector: Annotated[list[str], typer.Option(
        help="NAME=package.module:function[,closed][,processes=N], for rules with inspect: NAME; may be repeated.")] = None,
    inspector_queues: Annotated[str, typer.Option(help='First queue of the inspectors, "100:".')] = None,
    eve: Annotated[str, typer.Option(help="Append alerts and drops to this file, as JSON lines.")] = None,
    run_dir: Annotated[str, typer.Option(help="Sockets and shared memory.")] = None,
    lenient: Annotated[bool, typer.Option("--lenient", help="Leave out rules that are refused.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compile the rules anew, and keep no copy.")] = False,
    show_config: Annotated[bool, typer.Option("--show-config", help="Print the settings as TOML and end.")] = False,
):
    """Start filtering: one pinned worker a queue. Packets come by --iptables or by NFQUEUE rules of your own.

    You can lock yourself out: on the hooks input and output a rule, or a queue that nobody serves, cuts your own session.
    Name your address with --allow, and begin with --fail open.
    """
    from tigerfox.control import start as starter

    options = starter.options(locals())
    if show_config:
        typer.echo(starter.show(config, options), nl=False)
    else:
        starter.start(config, options, daemon)


@app.command(epilog=EXITS)
def stop(
    run_dir: RunDir = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 10.0,
    as_json: AsJson = False,
):
    """Stop the instance: iptables rules first, then workers and queues. Removes what a dead instance has left."""
    from tigerfox.control import client

    typer.echo(client.render_stop(client.stop(run_dir or None, timeout), as_json))


@app.command(epilog=EXITS)
def reload(run_dir: RunDir = "", as_json: AsJson = False):
    """Compile the rules again and take them up between two packets. When refused, the old ones stay in force."""
    from tigerfox.control import client

    typer.echo(client.render_reload(client.reload(run_dir or None), as_json))


@app.command(epilog=EXITS)
def status(run_dir: RunDir = "", as_json: AsJson = False):
    """Show losses, workers, verdicts and reasons of the running instance."""
    from tigerfox.telemetry import status as report

    typer.echo(report.render(report.status(run_dir or None), as_json))


@app.command(epilog=EXITS)
def replay(
    pcap: Annotated[Path, typer.Argument(readable=False, help="A pcap or pcapng file.")],
    rules: RuleFiles,
    var: Variables = None,
    midstream: Annotated[bool, typer.Option("--midstream", help="Inspect connections without their beginning.")] = False,
    lenient: Annotated[bool, typer.Option("--lenient", help="Leave out rules that are refused.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print EVE JSON, an event a line, and nothing else.")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compile the rules anew, and keep no copy.")] = False,
    inspector: Annotated[list[str], typer.Option(help="NAME=package.module:function, as at start; may be repeated.")] = None,
):
    """Judge the packets of a capture file as a running instance would; needs no privilege."""
    from tigerfox.offline.replay import replay as run

    run(pcap, rules, var, lenient, midstream, as_json, "none" if no_cache else "auto", inspector or ())


@app.command("explain", epilog=EXITS)
def explain_verb(
    pcap: Annotated[Path, typer.Argument(readable=False, show_default=False, help="A capture; none for a rule alone.")] = None,
    rules: RuleFiles = ...,
    packet: Annotated[int, typer.Option(min=1, show_default=False, help="Number of the packet in the capture, from 1.")] = None,
    sid: Annotated[int, typer.Option(min=1, show_default=False, help="The rule that is asked about.")] = None,
    var: Variables = None,
    midstream: Annotated[bool, typer.Option("--midstream", help="Inspect connections without their beginning.")] = False,
    lenient: Annotated[bool, typer.Option("--lenient", help="Leave out rules that are refused.")] = False,
    as_json: AsJson = False,
):
    """Say why a packet met its fate (--packet), why a rule did or did not match (--sid), or how it is compiled."""
    from tigerfox.offline.explain import explain

    explain(pcap, rules, packet, sid, var, midstream, lenient, as_json)


@rules_app.command("check", epilog=EXITS)
def rules_check(
    files: Annotated[list[str], typer.Argument(help="Rule files (.gz too) or folders of *.rules.")],
    var: Variables = None,
    lenient: Annotated[bool, typer.Option("--lenient", help="Exit 0 also when rules are refused.")] = False,
    as_json: AsJson = False,
):
    """Check rules: every fault as file:line:column, what, and what to write instead; exit 1 when a rule is refused."""
    from tigerfox.ruleset.check import check_files

    raise typer.Exit(check_files(files, var, lenient, as_json))


@rules_app.command("keywords", epilog=EXITS)
def rules_keywords(as_json: AsJson = False):
    """Print the keywords that rules may use: what each tests, what it costs, an example, where Suricata explains it."""
    from tigerfox.ruleset.keywords import render_keywords

    typer.echo(render_keywords(as_json))


@inspector_app.command("new", epilog=EXITS)
def inspector_new(
    name: Annotated[str, typer.Argument(help="Its name in rules: letters, digits, - and _.")],
    folder: Annotated[str, typer.Option(help="Where to write it.")] = ".",
):
    """Write an inspector to begin with: commented code, its rule, and a test that passes as written."""
    from tigerfox.inspectors import template

    typer.echo(template.said(name, template.write(name, folder)))


@inspector_app.callback()
def inspectors_of_all():
    """Python inspectors: begin one."""


@app.command("profile", epilog=EXITS)
def profile_verb(
    queue: Annotated[int, typer.Option(help="Whose worker; the busiest where none is named.", show_default=False)] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long to look.")] = 10.0,
    svg: Annotated[Path, typer.Option(help="Write a flame graph there.", show_default=False)] = None,
    top: Annotated[int, typer.Option(min=1, help="Functions in the table.")] = 25,
    run_dir: RunDir = "", as_json: AsJson = False,
):
    """Look where a worker spends its time, with perf, while it works: top functions, and a flame graph."""
    from tigerfox.telemetry import profile

    typer.echo(profile.render(profile.profile(queue, seconds, svg, top, run_dir or None), as_json))


@app.command(epilog=EXITS)
def bench(names: Annotated[list[str], typer.Argument(metavar="NAME", help="Which benches; all where none is named.")] = None):
    """Measure again what docs/performance.md says. Needs root and a checkout: benches are not part of the package."""
    from tigerfox import shipped

    raise typer.Exit(shipped.bench(names or []))


@app.command(epilog=EXITS)
def demo(as_json: AsJson = False):
    """Show TigerFox at work between three network namespaces, with real and hostile traffic. Leaves nothing behind."""
    from tigerfox.demo import run as show

    result = show.run(as_json)
    typer.echo(result.text)
    raise typer.Exit(0 if result.ok else 1)


StateDir = Annotated[str, typer.Option(help="State directory of the instance; the default is /var/lib/tigerfox.",
                                       show_default=False)]
Who = Annotated[list[str], typer.Argument(metavar="WHO", show_default=False,
                                          help="[source] ADDRESS, destination ADDRESS, pair ADDRESS ADDRESS, or "
                                          "connection PROTOCOL ADDRESS PORT ADDRESS PORT.")]


@blocks_app.command("list", epilog=EXITS)
def blocks_list(
    scope: Annotated[str, typer.Option(help="Only connection, source, destination or pair.", show_default=False)] = "",
    address: Annotated[str, typer.Option(help="Only entries with this address at either end.", show_default=False)] = "",
    run_dir: RunDir = "", state_dir: StateDir = "", as_json: AsJson = False,
):
    """Show who is blocked, for how much longer, by which rule, and how often it was hit."""
    from tigerfox.control import blocklist

    typer.echo(blocklist.render(blocklist.entries(scope, address, run_dir=run_dir, state_dir=state_dir), as_json))


@blocks_app.command("add", epilog=EXITS)
def blocks_add(
    who: Who,
    duration: Annotated[str, typer.Option("--for", help="90s, 10m, 1h30m, 7d or never.")] = "1h",
    sid: Annotated[int, typer.Option(min=0, max=0xffffffff, help="Rule to name as the cause.")] = 0,
    run_dir: RunDir = "", state_dir: StateDir = "",
):
    """Block an address, a pair or a connection from the next packet on. Can lock you out: do not name your own address."""
    from tigerfox.control import blocklist

    typer.echo(blocklist.add(who, duration, sid, run_dir=run_dir, state_dir=state_dir))


@blocks_app.command("remove", epilog=EXITS)
def blocks_remove(who: Who, run_dir: RunDir = "", state_dir: StateDir = ""):
    """Take one entry out."""
    from tigerfox.control import blocklist

    typer.echo(blocklist.remove(who, run_dir=run_dir, state_dir=state_dir))


@blocks_app.command("flush", epilog=EXITS)
def blocks_flush(run_dir: RunDir = "", state_dir: StateDir = ""):
    """Take every entry out."""
    from tigerfox.control import blocklist

    typer.echo(blocklist.flush(run_dir=run_dir, state_dir=state_dir))


@blocks_app.command("import", epilog=EXITS)
def blocks_import(
    files: Annotated[list[str], typer.Argument(help="Files of one entry a line, as export writes them; - is standard input.")],
    duration: Annotated[str, typer.Option("--for", help="For lines that do not say: 10m, 7d, never.")] = "never",
    sid: Annotated[int, typer.Option(min=0, max=0xffffffff, help="Cause, for lines that do not say.")] = 0,
    lenient: Annotated[bool, typer.Option("--lenient", help="Leave bad lines out instead of importing nothing.")] = False,
    run_dir: RunDir = "", state_dir: StateDir = "", as_json: AsJson = False,
):
    """Block what files say: a bare address a line, or lines as export writes them. All lines, or none when one is bad."""
    from tigerfox.control import blocklist

    done = blocklist.import_(files, duration, sid, lenient, run_dir=run_dir, state_dir=state_dir)
    typer.echo(blocklist.render_import(done, as_json))


@blocks_app.command("export", epilog=EXITS)
def blocks_export(
    file: Annotated[str, typer.Argument(help="File to write; - is standard output.")] = "-",
    run_dir: RunDir = "", state_dir: StateDir = "",
):
    """Write all entries as text that import reads."""
    from tigerfox.control import blocklist

    blocklist.export(file, run_dir=run_dir, state_dir=state_dir)
