"""``jobctl exporter``: Prometheus metrics of the runs below a root."""

from __future__ import annotations

import json
import signal
import threading

import click

from jobctl.jobs.cli.choices import root
from jobctl.jobs.cli.output import say
from jobctl.jobs.core.errors import UserError
from jobctl.jobs.core.extras import install_hint
from jobctl.jobs.monitoring.dashboard import dashboard
from jobctl.jobs.monitoring.exporter import Runs, collector

PORT = 9109


@click.command("exporter")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port; 0: any.")
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Address; 0.0.0.0 for other machines."
)
@click.option("--dashboard", "as_dashboard", is_flag=True, help="Print the Grafana dashboard and exit.")
@click.option("--once", is_flag=True, help="Print the metrics and exit.")
def exporter_command(port: int, address: str, as_dashboard: bool, once: bool) -> None:
    """Serve the metrics of all runs of this root to Prometheus, until Ctrl-C.

    Each scrape reads what the runs wrote since the last one. It asks no scheduler.
    """
    if as_dashboard:
        click.echo(json.dumps(dashboard(), indent=1))
        return

    try:
        from prometheus_client import CollectorRegistry, generate_latest, start_http_server
    except ModuleNotFoundError:
        hint = install_hint("monitoring")
        raise UserError("the exporter needs the package prometheus-client", hint=hint) from None

    registry = CollectorRegistry()
    registry.register(collector(Runs(root())))
    if once:
        click.echo(generate_latest(registry).decode(), nl=False)
        return

    ended = threading.Event()
    # Set before the port opens: a program that waits for the port may send the signal at once.
    signal.signal(signal.SIGTERM, lambda number, frame: ended.set())
    try:
        server, _ = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise UserError(f"{address}:{port}: {error.strerror}", hint="--port N", code=1) from None

    # The server's port is printed, not the option's: for 0 the system has chosen one.
    say(f"metrics of {root()} at http://{address}:{server.server_port}/metrics")
    ended.wait()
    server.shutdown()
