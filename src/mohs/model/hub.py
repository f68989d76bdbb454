"""Files of the Hugging Face hub, by its own cache, offline mode and mirror (HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT)."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from mohs.errors import InputError, Problem, reason_of

__all__ = ["HUB_PREFIX", "hub_embedder", "hub_errors", "hub_file"]

HUB_PREFIX = "hf-hub:"
"""What the name of a repository begins with where a folder may stand, too, as in timm: hf-hub:user/name@revision."""


def hub_file(repo: str, file: str, *, revision: str | None = None, place: str = "repo") -> Path:
    """Return a file of a model repository, in the hub's cache; it is fetched if a newer one is there.

    Where the hub cannot be reached, or with HF_HUB_OFFLINE=1, it is the one in the cache. Raises `InputError`, one
    line at `place`, if there is none, and for repositories, revisions and files that the hub does not have.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    unreachable = False
    with hub_errors(repo, place):
        try:
            # Asked once: `hf_hub_download` would try for 24 s to reach a hub that is not there.
            get_hf_file_metadata(hf_hub_url(repo, file, revision=revision))
        except (HfHubHTTPError, HFValidationError):
            raise
        except Exception as error:  # of the hub's HTTP client, which changed with versions
            if not _is_no_connection(error):
                raise
            unreachable = True
        return Path(hf_hub_download(repo, file, revision=revision, local_files_only=unreachable))


def hub_embedder(name: str) -> Path:
    """Return the folder, in the hub's cache, of the embedder "hf-hub:user/name", or "hf-hub:user/name@revision".

    Only its settings and its safetensors file are fetched. Raises `InputError` as `hub_file` does.
    """
    repo, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    settings = hub_file(repo, "embedder.json", revision=revision or None, place=name)
    # The folder is named by its commit: the weights are of the same one, whatever is pushed meanwhile.
    return hub_file(repo, "model.safetensors", revision=settings.parent.name, place=name).parent


@contextlib.contextmanager
def hub_errors(repo: str, place: str) -> Iterator[None]:
    """Let errors of the hub be one line at `place`; its log is kept back meanwhile."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:
        told = _told(error, repo)
        if told is None:
            raise
        raise InputError(Problem(place, *told)) from None
    finally:
        log.setLevel(level)


def _told(error: Exception, repo: str) -> tuple[str, str] | None:
    """Return what an error of the hub means and what to do about it; None for one that is none of the hub's."""
    from huggingface_hub import constants, errors

    away = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
    match error:
        case errors.HFValidationError():
            return f"{repo!r} is not the name of a repository", "write user/name"
        case errors.RepositoryNotFoundError():
            what = f"{constants.ENDPOINT} has no model {repo!r}, or you may not read it"
            return what, "check the name, or set HF_TOKEN"
        case errors.RevisionNotFoundError():
            return f"{repo!r} has no such revision", "check what follows the @"
        case errors.RemoteEntryNotFoundError():
            file = error.response.url.path.rpartition("/")[2]
            return f"{repo!r} has no {file}, and no other file is loaded", "use another repository"
        case errors.LocalTokenNotFoundError():
            return "the hub asks for a login", "set HF_TOKEN"
        case errors.HfHubHTTPError():
            status = error.response.status_code
            fix = "set HF_TOKEN to a token that may do this" if status in (401, 403) else "try again later"
            return f"{constants.ENDPOINT} answers {status} for {repo!r}", fix
        case errors.LocalEntryNotFoundError():
            return f"{away}, and {repo!r} is not in the cache", "connect, or set HF_ENDPOINT to a mirror"
        case RuntimeError():  # of a file whose upload was cut short
            return reason_of(error), "try again"
    return (away, "connect, or set HF_ENDPOINT to a mirror") if _is_no_connection(error) else None


def _is_no_connection(error: Exception) -> bool:
    """Return whether an error says that there is no hub: by name, since the hub's HTTP client is another at times."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"TransportError", "ConnectionError", "FileMetadataError"})
