"""The HTTP server of the REST API: one thread for all connections, a few for the answers.

The standard library's servers give each connection a thread, which a client can hold by sending
nothing. Here connections cost no thread until a request is complete, so that the number of threads
is the number of requests that are answered at the same time, as in TensorFlow Serving.
"""

from __future__ import annotations

import asyncio
import os
import threading

from segkit.serving.addresses import listen
from segkit.serving.rest.connection import Api, Hub, Limits

__all__ = ["Limits", "RestServer"]


class RestServer:
    """Serves an API over HTTP, from `start` to `stop`.

    Args:
        api: What answers the requests.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        threads: Requests answered at the same time; 4 for each CPU if None.
        limits: What clients may take.
    """

    def __init__(
        self,
        api: Api,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        self.port = port
        self._host = host.strip("[]")
        self._threads = threads or 4 * (os.cpu_count() or 1)
        self._api = api
        self._limits = limits or Limits()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._hub: Hub | None = None

    def start(self) -> None:
        """Opens the port and answers.

        Raises:
            ConfigError: The port cannot be listened on.
        """
        listener = listen(self._host, self.port, flag="--rest_api_port")
        self.port = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._hub = Hub(self._api, self._threads, self._limits, self._loop)
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._hub.listen(listener), self._loop).result()

    def stop(self, grace_s: float = 5.0) -> None:
        """Refuses new connections, finishes the requests that have begun, and ends.

        Args:
            grace_s: Seconds after which they are cut off.
        """
        loop, hub, thread = self._loop, self._hub, self._thread
        if loop is None or hub is None or thread is None:
            return
        self._loop = self._hub = self._thread = None
        asyncio.run_coroutine_threadsafe(hub.drain(grace_s), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
