"""Weights of open_clip models that have to come from a network: what is cached, and what to do where nothing is."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


class MissingWeightsError(OSError):
    """Weights that are neither in the cache nor reachable."""


@contextlib.contextmanager
def reachable(name: str) -> Iterator[None]:
    """Inside, a failed download of the model `name` is one `MissingWeightsError` that says what to do.

    Without it open_clip logs the failure and raises RuntimeError, and huggingface_hub raises one of a dozen classes.
    """

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Failed to download")

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    except (RuntimeError, OSError) as error:
        if not _is_download(error):
            raise
        offline = next((f"{key}=1 forbids it" for key in _OFFLINE if os.environ.get(key) == "1"), "no connection")
        raise MissingWeightsError(
            f"Expected the weights of {name} in the cache or on the network, but they are not cached and could not be "
            f"fetched ({offline}). Two ways out: run `hyperalign models --fetch {name}` where there is a network and "
            f"copy {_cache()} here; or name `tinyworld` as the model, which is built in and tries the commands on "
            "coloured shapes (it knows nothing of photographs)"
        ) from error
    finally:
        root.removeFilter(keep)


def cached_tags() -> list[str]:
    """The open_clip models NAME/TAG whose weights are on this machine, in open_clip's order."""
    import open_clip

    repositories = {repository: files for repository, files in cached_files().items() if files}
    found = []
    for name, tag in open_clip.list_pretrained():
        about = open_clip.get_pretrained_cfg(name, tag)
        repository, _, file = about.get("hf_hub", "").rpartition("/")
        weights = {file} if file else {"open_clip_model.safetensors", "open_clip_pytorch_model.bin"}
        if weights & repositories.get(repository, set()):
            found.append(f"{name}/{tag}")
    return found


def cached_files() -> dict[str, set[str]]:
    """Hub repository -> the files of it that are cached, relative to its root; of all its revisions."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    return {
        repo.repo_id: {
            file.file_path.relative_to(revision.snapshot_path).as_posix()
            for revision in repo.revisions
            for file in revision.files
        }
        for repo in repositories
        if repo.repo_type == "model"
    }


def _is_download(error: Exception) -> bool:
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, (EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled, ConnectionError)):
        return True
    # open_clip wraps what was raised in a sentence; transformers' tokenizers and towers do likewise
    return any(words in str(error) for words in ("Failed to download", "couldn't connect to", "offline mode"))


def _cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)
