"""A page of twisted.web for tests of connections that are busy with it."""

from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET


class Page(Resource):
    """Answers when the test says so."""

    isLeaf = True  # noqa: N815

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []

    def render_GET(self, request: Any) -> Any:
        self.requests.append(request)
        return NOT_DONE_YET

    render_POST = render_GET  # noqa: N815
