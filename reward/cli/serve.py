"""`hyperalign serve`: the reward over HTTP."""

import argparse
import os
from typing import Any

TOKEN_VARIABLE = "HYPERALIGN_TOKEN"


def open_port(arguments: argparse.Namespace) -> Any:
    """The listening socket, opened before a model is loaded in vain.

    Raises:
        ImportError: what serving needs is not installed.
        OSError: the port is taken.
    """
    try:
        from reward.serving.server import listen
    except ImportError as error:
        raise ImportError(f"{error.name} is needed to serve: pip install 'hyperalign[serve]'") from error
    return listen(arguments.host, arguments.port)


def run(arguments: argparse.Namespace, listening: Any, reward: Any, model: str) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    from reward.serving.app import app_for
    from reward.serving.limits import Limits
    from reward.serving.server import serve

    limits = Limits(
        body_bytes=arguments.max_body_mb * 2**20, held_bytes=8 * arguments.max_body_mb * 2**20,
        queued_pictures=arguments.queue,
    )  # fmt: skip
    app = app_for(
        reward, model=model, limits=limits, batch_size=arguments.batch_size, most_wait=arguments.max_wait_ms / 1000,
        token=os.environ.get(TOKEN_VARIABLE, ""),
    )  # fmt: skip
    host, port = listening.getsockname()[:2]
    print(f"hyperalign serve: http://{f'[{host}]' if ':' in host else host}:{port} answers; Ctrl-C ends it", flush=True)
    serve(app, listening, limits)
    return 0
