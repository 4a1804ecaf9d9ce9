"""The environment of a child process: what it needs to compute, and no credentials.

An allow list: the names of other variables of a service (API keys, credentials of object stores, addresses of
databases) cannot be known.
"""

import re
from collections.abc import Mapping

_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP"),
        *("XDG_CACHE_HOME", "XDG_DATA_HOME", "VIRTUAL_ENV"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
        *("PYTHONUNBUFFERED", "PYTHONWARNINGS", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONFAULTHANDLER"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "GLIBC_TUNABLES"),
        *("CC", "CXX", "CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH"),
        *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM"),
        *("LUTHIER_KERNELS", "LUTHIER_TRAIN_DEVICE"),
    }
)
_FAMILIES = re.compile(
    r"(LC|OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|VECLIB|NUMEXPR|ONEDNN|DNNL|MALLOC|TCMALLOC|GGML"
    r"|TORCH|TORCHINDUCTOR|PYTORCH|TRITON|CUDA|CUBLAS|CUDNN|NCCL|NVIDIA|HIP|HSA|ROCR|ROCM)_\w+"
)
_DOWNLOAD = re.compile(
    r"(?i:(https?|all|no|ftp)_proxy)|PIP_\w+|XDG_CONFIG_HOME|SSL_CERT_(FILE|DIR)|(REQUESTS|CURL)_CA_BUNDLE|NETRC"
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL")
"""Some vendors' families contain keys too."""


def to_compute(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a trainer, an engine or a compiler gets, as a new dict; names not on the list are dropped."""
    return {name: value for name, value in environment.items() if _is_for_computing(name)}


def to_download(environment: Mapping[str, str]) -> dict[str, str]:
    """As `to_compute`, for a client of a package registry: proxies, certificates and registry settings are kept too."""
    return {name: value for name, value in environment.items() if _is_for_computing(name) or _DOWNLOAD.fullmatch(name)}


def _is_for_computing(name: str) -> bool:
    """Whether a variable is on the list, or in a family of libraries and not named like a secret."""
    return name in _NAMES or (_FAMILIES.fullmatch(name) is not None and _SECRET.search(name) is None)
