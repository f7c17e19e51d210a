"""The servers that ``benchmarks/serve.py`` compares, each a process: ``python serve_peers.py WHO``.

WHO is ``bare`` (vLLM's own server), ``ours`` (``eksml.serve``) or ``ray`` (``ray.serve.llm``). All
get the same model and engine arguments, from a JSON object on the command line. A server runs until
its standard input ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

ENGINE: dict[str, Any] = {
    "dtype": "bfloat16",
    "enforce_eager": True,
    "load_format": "safetensors",
    "max_num_seqs": 64,
}
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def start(who: str, model: str, port: int, context: int) -> subprocess.Popen[str]:
    """Start a server; it may take a minute until it answers."""
    engine = ENGINE | {"max_model_len": context}
    asked = json.dumps({"model": model, "port": port, "engine": engine})
    return subprocess.Popen(
        [sys.executable, __file__, who, asked],
        stdin=subprocess.PIPE,
        text=True,
        env=os.environ | ENVIRONMENT,
    )


def bare(model: str, port: int, engine: Mapping[str, Any]) -> None:
    """vLLM's own server, at its best: without a log line for each request."""
    flags = [f"--{name.replace('_', '-')}" for name, value in engine.items() if value is True]
    flags += [
        f"--{name.replace('_', '-')}={value}" for name, value in engine.items() if value is not True
    ]
    module = "vllm.entrypoints.launchers.api_server.entry"
    served = ["--host=127.0.0.1", f"--port={port}", f"--model={model}", "--served-model-name=m"]
    command = [sys.executable, "-m", module, *served, "--disable-uvicorn-access-log", *flags]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    sys.stdin.read()
    server.terminate()
    server.wait(timeout=30)


def ours(model: str, port: int, engine: Mapping[str, Any]) -> None:
    """The same through ``eksml.serve``. Its access log is written, but not copied to here."""
    import ray as ray_itself

    from eksml.serving import ModelSpec
    from eksml.serving.verb import serve

    ray_itself.init(address="local", num_cpus=4, log_to_driver=False, logging_level="WARNING")
    spec = ModelSpec(name="m", source=model, engine=dict(engine), queue=256)
    endpoint = serve(spec, port=port)
    sys.stdin.read()
    endpoint.stop()


def ray(model: str, port: int, engine: Mapping[str, Any]) -> None:
    """The same through ``ray.serve.llm``, as it comes, but for what makes it run on a CPU."""
    import ray as ray_itself
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    ray_itself.init(address="local", num_cpus=8, include_dashboard=False, logging_level="WARNING")
    config = LLMConfig(
        model_loading_config={"model_id": "m", "model_source": model},
        engine_kwargs=dict(engine),
        placement_group_config={"bundles": [{"CPU": 1}]},
        deployment_config={"num_replicas": 1},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_openai_app({"llm_configs": [config]}), blocking=False)
    sys.stdin.read()
    serve.shutdown()
    ray_itself.shutdown()


if __name__ == "__main__":
    {"bare": bare, "ours": ours, "ray": ray}[sys.argv[1]](**json.loads(sys.argv[2]))
