"""Settings are declared once: names, defaults and documentation come from the same fields."""

from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, table, variables

DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deployment.md"


def test_the_documentation_has_the_table_of_settings() -> None:
    assert table() in DEPLOYMENT.read_text(), "put the output of service.settings.table() into docs/deployment.md"


def test_variables_are_called_after_their_fields_or_as_everywhere() -> None:
    assert {name for name in variables() if not name.startswith("ADADIM_")} == {
        "DATABASE_URL", "RAY_ADDRESS", "RAY_AUTH_TOKEN",
    }  # fmt: skip
    given = {"ADADIM_STATE_DIR": "/state", "ADADIM_SLOTS": "7", "DATABASE_URL": "postgresql://db/x", "ADADIM_LOG": ""}
    settings = Settings.from_environ(given)
    assert (settings.slots, settings.database_url, settings.log) == (7, "postgresql://db/x", None)


@pytest.mark.parametrize(
    "name", ["ADADIM_SLOTS", "ADADIM_PORT", "RAY_ADDRESS", "ADADIM_LOG", "ADADIM_KEEP_POINTS_DAYS"]
)
def test_a_wrong_value_is_told_with_its_variable(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}: "):
        Settings.from_environ({"ADADIM_STATE_DIR": "/state", name: "-7"})
