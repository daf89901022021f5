"""How HTTP leaves this machine: proxies of the environment, their exceptions, and where an address is told."""

import ssl

import pytest

from adadim_core import network

PROXY = {"HTTP_PROXY": "http://me:hush@proxy:3128", "https_proxy": "proxy:3129"}


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://db.lab:8080/x", {}, None),
        ("http://db.lab:8080/x", PROXY, "http://me:hush@proxy:3128"),
        ("https://db.lab/x", PROXY, "http://proxy:3129"),
        ("https://db.lab", {"ALL_PROXY": "http://any:1"}, "http://any:1"),
        ("http://db.lab", {"http_proxy": "http://small:1", "HTTP_PROXY": "http://large:1"}, "http://small:1"),
        ("http://db.lab", PROXY | {"NO_PROXY": "*"}, None),
        ("http://db.lab", PROXY | {"NO_PROXY": "other.lab, db.lab"}, None),
        ("http://db.lab", PROXY | {"no_proxy": ".lab"}, None),
        ("http://db.lab", PROXY | {"no_proxy": "*.lab"}, None),
        ("http://db.lab", PROXY | {"no_proxy": "lab"}, None),
        ("http://xlab", PROXY | {"no_proxy": "lab"}, "http://me:hush@proxy:3128"),
        ("http://DB.LAB.", PROXY | {"no_proxy": "db.lab"}, None),
        ("http://db.lab:8080", PROXY | {"no_proxy": "db.lab:8080"}, None),
        ("http://db.lab:8080", PROXY | {"no_proxy": "db.lab:8081"}, "http://me:hush@proxy:3128"),
        ("http://db.lab", PROXY | {"no_proxy": "db.lab:80"}, None),
        ("http://10.1.2.3:8265", PROXY | {"no_proxy": "10.0.0.0/8"}, None),
        ("http://11.1.2.3:8265", PROXY | {"no_proxy": "10.0.0.0/8"}, "http://me:hush@proxy:3128"),
        ("http://10.1.2.3", PROXY | {"no_proxy": "10.1.2.3"}, None),
        ("http://[fd00::7]:8265", PROXY | {"no_proxy": "fd00::/8"}, None),
        ("http://127.0.0.1:8080", PROXY, None),
        ("http://127.3.2.1:8080", PROXY, None),
        ("http://localhost:8080", PROXY, None),
        ("http://[::1]:8080", PROXY, None),
        ("http://[::1", PROXY, None),  # no address: whoever asks there is told
    ],
)
def test_the_proxy_is_the_environments_but_for_its_exceptions(
    url: str, environment: dict[str, str], expected: str | None
) -> None:
    assert network.proxy(url, environment) == expected


@pytest.mark.parametrize("value", ["ftp://proxy", "http://", "http://proxy:port", "socks4://proxy:1", "http://[x"])
def test_what_is_no_proxy_is_named_by_its_variable(value: str) -> None:
    with pytest.raises(network.ProxyUnusable, match=r"^HTTP_PROXY names no proxy"):
        network.proxy("http://db.lab", {"HTTP_PROXY": value})


def test_a_proxy_that_takes_a_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "find_spec", lambda _: None)
    with pytest.raises(network.ProxyUnusable, match=r"socksio: install it, or add db.lab to NO_PROXY"):
        network.proxy("http://db.lab", {"ALL_PROXY": "socks5://proxy:1080"})


def test_an_address_is_told_with_the_proxy_before_it_and_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert network.route("http://db.lab:8080") == "http://db.lab:8080"
    monkeypatch.setenv("HTTP_PROXY", "http://me:hush@proxy:3128")
    told = "http://db.lab:8080 (through the proxy http://proxy:3128 of the environment)"
    assert network.route("http://db.lab:8080") == told
    monkeypatch.setenv("HTTP_PROXY", "nonsense://")
    assert network.route("http://db.lab:8080") == "http://db.lab:8080"


def test_an_error_is_told_by_its_cause_and_in_one_line() -> None:
    inner = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    inner.reason = "WRONG_VERSION_NUMBER"
    outer = RuntimeError("outer\nmore")
    outer.__cause__ = inner
    assert network.is_tls(outer)
    assert network.reason(outer) == "it speaks no TLS (wrong version number); its address may begin with http://"
    assert network.reason(ValueError("one\ntwo")) == "one"
    assert network.reason(TimeoutError()) == "TimeoutError"
    assert not network.is_tls(ValueError("x"))
