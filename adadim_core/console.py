"""Rich's console for text that others wrote."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from adadim_core.terminal import terminal_text


class SafeConsole(Console):
    """Whatever text is printed goes through `terminal_text`. Colours and layout are the console's own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(terminal_text(segment.text), segment.style)
