"""Names below a run's folder, and places as users name them: pure functions."""

from hypothesis import given
from hypothesis import strategies as st

from adadim_core.storage import layout
from adadim_core.storage.address import folder, in_object_store, join, shown, without_keys

PART = st.text("abcXYZ019-._~", min_size=1, max_size=12)
SECRET = st.text("abcXYZ019/+@=", min_size=8, max_size=20)


def test_a_trial_s_files_lie_in_its_folder() -> None:
    files = [layout.checkpoint(7), layout.result(7), layout.params(7), layout.failures(7), layout.trial_log(7)]
    assert all(file.startswith("trials/0007/") for file in [*files, layout.encoder(7)])
    assert layout.earlier_log(layout.trial_log(7)) == "trials/0007/log.1.txt"
    assert layout.earlier_log(layout.driver_log(12)) == "logs/attempt-12.1.log"
    assert layout.spool(7, "local-1a", "0b0c") == "points/0007-local-1a-0b0c.jsonl"


@given(PART, PART, PART)
def test_joining_keeps_the_settings_of_an_address(bucket: str, name: str, value: str) -> None:
    assert join(f"s3://{bucket}/runs/?scheme={value}", name) == f"s3://{bucket}/runs/{name}?scheme={value}"
    assert join(f"/shared/{bucket}?/", name) == f"/shared/{bucket}?/{name}"


@given(PART, SECRET, PART)
def test_what_is_shown_has_no_keys(user: str, secret: str, bucket: str) -> None:
    location = f"s3://{user}:{secret}@{bucket}/runs?secret_key={secret}"
    assert shown(location) == f"s3://{bucket}/runs"
    for text in (f"cannot open {location}: no", f"the key {secret} is not known", f"'secret_key={secret}'"):
        assert secret not in without_keys(text, location)


def test_folders_and_object_stores_are_told_apart() -> None:
    assert [in_object_store(place) for place in ("/a?b", "a/b", "file:///a", "s3://b", "gs://b/a")] == [
        False, False, False, True, True,
    ]  # fmt: skip
    assert str(folder("file:///a/b")) == "/a/b"
    assert shown("/a@b?c") == "/a@b?c"
    assert shown("s3://bucket/team@lab/runs?scheme=http") == "s3://bucket/team@lab/runs"
