import pytest

from rl.runs.checkpoints import save_checkpoint
from rl.runs.errors import explained


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("bug")])
def test_an_error_says_what_is_kept_and_how_to_go_on(tmp_path, error):
    with pytest.raises(type(error)) as caught, explained(tmp_path, 1):
        raise error
    assert caught.value.__notes__ == [f"{tmp_path} has no checkpoint yet. Start again with the same command."]
    save_checkpoint(tmp_path, 3, tensors={}, state={}, write_rest=lambda folder: None, keep=2)
    with pytest.raises(type(error)) as caught, explained(tmp_path, 1):
        raise error
    assert "checkpoint_3. To resume from it, use the same command with --resume_from" in caught.value.__notes__[-1]


def test_a_lost_process_is_named_and_other_errors_stay(tmp_path):
    gloo = RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:29103.")
    with pytest.raises(ConnectionError, match="another process .* has ended") as caught, explained(tmp_path, 2):
        raise gloo
    assert caught.value.__cause__ is gloo and caught.value.__notes__
    with pytest.raises(RuntimeError, match="peer"), explained(tmp_path, 1):
        raise gloo
    with pytest.raises(RuntimeError, match="size mismatch"), explained(tmp_path, 2):
        raise RuntimeError("size mismatch")
