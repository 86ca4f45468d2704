"""The cluster's secret: what is taken for one, and that each purpose has its own part of it."""

from pathlib import Path

import pytest

from trunkline.host.cluster_secret import ClusterSecret, Purpose, read_secret
from trunkline.host.refusal import ConfigError

TEXT = "0123456789abcdef" * 4


def token(folder: Path, text: str = TEXT, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_every_purpose_is_given_something_else_and_each_host_the_same(tmp_path: Path) -> None:
    one, two = read_secret(token(tmp_path)), read_secret(token(tmp_path, f" {TEXT}\n"))

    derived = {purpose: one.derive(purpose) for purpose in Purpose}

    assert derived == {purpose: two.derive(purpose) for purpose in Purpose}
    assert len(set(derived.values())) == len(Purpose)
    assert TEXT not in repr(one)


def test_what_was_derived_once_is_derived_for_ever() -> None:
    """Data folders and running hosts hold these values: another one is another cluster."""
    secret = ClusterSecret(b"x" * 32)

    assert secret.cluster_id == "2cb06197083be520d70ff78ededdd0f4"
    assert secret.derive(Purpose.ENGINE_ROUTE).startswith("f45bb0f6")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_secret_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=r"other users \(mode 0\d\d\d\): run 'chmod 600 "):
        read_secret(token(tmp_path, mode=mode))


@pytest.mark.parametrize(("text", "count"), [("", 0), ("secret\n", 6), ("x" * 5000, 4097)])
def test_a_secret_that_is_none_is_refused(tmp_path: Path, text: str, count: int) -> None:
    with pytest.raises(ConfigError, match=f"holds {count} characters.*openssl rand"):
        read_secret(token(tmp_path, text))


def test_a_secret_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster.token_file names .No such file"):
        read_secret(tmp_path / "absent")
    with pytest.raises(ConfigError, match="is not a file"):
        read_secret(tmp_path)


OLD, NEW, NEWER = "a" * 64, "b" * 64, "c" * 64
ACCESS = frozenset({Purpose.ENGINE_CLIENT, Purpose.ENGINE_ROUTE, Purpose.HOST_TO_HOST})


def test_a_cluster_stays_what_it_was_while_its_hosts_show_each_other_another_secret(
    tmp_path: Path,
) -> None:
    old = read_secret(token(tmp_path, OLD))
    both = read_secret(token(tmp_path, f"{NEW}\n{OLD}\n"))
    done = read_secret(token(tmp_path, f"{NEW}\nbirth:{OLD}\n"))
    again = read_secret(token(tmp_path, f"{NEWER}\n{NEW}\nbirth:{OLD}\n"))
    new = read_secret(token(tmp_path, NEW))

    for purpose in Purpose:
        changed = {each.derive(purpose) for each in (both, done)}
        assert changed == {(new if purpose in ACCESS else old).derive(purpose)}
    assert both.cluster_id == done.cluster_id == again.cluster_id == old.cluster_id
    for purpose in ACCESS:
        assert both.former(purpose) == (old.derive(purpose),)
        assert done.former(purpose) == old.former(purpose) == ()
        assert again.former(purpose) == (new.derive(purpose),)


@pytest.mark.parametrize(
    "text",
    [f"birth:{OLD}", f"birth:{OLD}\n{NEW}", f"{NEW}\nbirth:{OLD}\nbirth:{OLD}", f"{NEW}\n" * 5],
)
def test_a_file_that_does_not_say_which_secret_is_which_is_refused(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(ConfigError, match=r"lines, \d of them with 'birth:'"):
        read_secret(token(tmp_path, text))


def test_each_of_several_secrets_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds 5 characters"):
        read_secret(token(tmp_path, f"{NEW}\nbirth:short"))
