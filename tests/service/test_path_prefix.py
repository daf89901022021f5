"""The dashboard under a path of a proxy, as nginx's `location /adadim/ { proxy_pass http://service/; }` has it."""

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from service_harness import Running

STATIC = Path(__file__).parents[2] / "service" / "dashboard" / "static"
PREFIX = "http://proxy/adadim"


PAGES = [
    *("/", "/experiments", "/experiments/", "/experiments/7", "/experiments/7/", "/experiments/7/trials/3"),
    *("/new", "/diff", "/docs"),
]


@pytest.mark.parametrize("page", PAGES)
async def test_what_a_page_asks_for_is_below_the_prefix(service: Running, page: str) -> None:
    answer = await service.http.get(page)
    assert answer.status_code == 200
    wanted = re.findall(r"""(?:href|src|url)["']?[=:]\s?["']([^"'#]+)["']""", answer.text)
    assert len(wanted) >= 4
    for address in wanted:
        beyond = urljoin(PREFIX + page, address)
        assert beyond.startswith(f"{PREFIX}/"), f"{address} leaves the prefix"
        assert (await service.http.get(beyond.removeprefix(PREFIX))).status_code == 200, address


def test_no_script_names_an_address_from_the_root_on() -> None:
    scripts = [*(STATIC / "js").glob("*.js")]
    address = re.compile(r"""["'`]/(?:["'`]|api|static|experiments|docs)""")
    lines = [(script.name, line) for script in scripts for line in script.read_text().splitlines()]
    assert len(scripts) > 10
    # request() puts the service's own path before the one it is given.
    assert [found for found in lines if address.search(found[1]) and "request(" not in found[1]] == []
