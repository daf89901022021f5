"""`adadim token`: make, list and revoke the tokens of people. Takes an admin's token."""

from typing import Annotated

import typer
from rich.table import Table

from adadim.client import ClientError
from adadim.connection import open_client
from adadim_core.terminal import terminal_text
from service.cli import times
from service.cli.output import AsJson, console, print_aside, print_json, readable_errors
from service.settings import Settings

app = typer.Typer(help="Make, list and revoke access tokens (admins only).", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose token it is: the owner of what is submitted with it.")],
    *,
    role: Annotated[str, typer.Option(help="viewer, submitter or admin.")] = "submitter",
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days until it expires.")] = 90,
    never_expires: Annotated[bool, typer.Option("--never-expires", help="Valid until it is revoked.")] = False,
) -> None:
    """Make a token. Its value is printed this once, alone on standard output."""
    with readable_errors(), open_client() as client:
        token = client.create_token(name, role, expires_in_days=None if never_expires else days)
    expires = token["expires_at"]
    until = "until it is revoked" if expires is None else times.headed(f"until {times.day(expires)}", [expires])
    print_aside(f"Token {token['id']} for {name} ({role}), valid {until}. It is shown this once:")
    typer.echo(terminal_text(token["token"]))


@app.command("list")
def list_tokens(*, as_json: AsJson = False) -> None:
    """List tokens, newest first, without their values."""
    with readable_errors(), open_client() as client:
        if as_json:
            print_json(client.tokens())
            return
        table = Table(box=None, pad_edge=False, header_style="dim")
        tokens = client.tokens()
        dated = {"created": "created_at", "expires": "expires_at", "last used": "last_used_at"}
        heads = (times.headed(head, (token[name] for token in tokens)) for head, name in dated.items())
        for head in ("id", "name", "role", *heads):
            table.add_column(head)
        for token in tokens:
            expires = "never" if token["expires_at"] is None else times.day(token["expires_at"])
            used = "never" if token["last_used_at"] is None else times.minute(token["last_used_at"])
            table.add_row(str(token["id"]), token["name"], token["role"], times.day(token["created_at"]), expires, used)
        console.print(table)


@app.command()
def recover() -> None:
    """Replace a lost admin token: takes the service's database (DATABASE_URL, ADADIM_STATE_DIR), and no token."""
    from service.cli.local_database import replace_token  # imported here: the other commands need no database

    with readable_errors():
        settings = Settings.from_environ()
        if settings.admin_token_file is not None:
            raise ClientError(
                f"the admin token comes from {settings.admin_token_file} (ADADIM_ADMIN_TOKEN_FILE): put another one "
                "there and start the service again"
            )
        path = replace_token(settings)
    console.print(f"A new admin token is in {path}; the one before it is revoked.")


@app.command()
def revoke(
    token: Annotated[int, typer.Argument(min=1, help="Its number in `adadim token list`.")],
) -> None:
    """End a token, and every browser session opened with it, at once."""
    with readable_errors(), open_client() as client:
        client.revoke_token(token)
    console.print(f"Token {token} is revoked.")
