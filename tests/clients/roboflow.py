"""Asks a server through ``inference-sdk``, which cannot share the application's libraries.

From stdin: {"server", "key", "steps": [{"do", …}]}. To stdout: for each step {"answer": …}, or
{"error": what the client raised, "status", "message"}. ``script/clients`` makes what it runs with.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
import supervision as sv
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError, HTTPClientError
from PIL import Image


def pictures_as(kind: str, paths: list[str]) -> list[Any]:
    """What people give that client: addresses and paths as they are, Pillow's or OpenCV's."""
    if kind == "pil":
        return [Image.open(path) for path in paths]
    if kind == "numpy":  # as OpenCV orders colours
        return [np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1] for path in paths]
    return list(paths)


def read(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as ``supervision`` understands it."""
    found = sv.Detections.from_inference(answer)
    return {
        "size": [answer["image"]["width"], answer["image"]["height"]],
        "boxes": found.xyxy.tolist(),
        "scores": [] if found.confidence is None else found.confidence.tolist(),
        "labels": [str(name) for name in found.data.get("class_name", [])],
        "numbers": [] if found.class_id is None else found.class_id.tolist(),
    }


def infer(client: InferenceHTTPClient, step: dict[str, Any]) -> Any:
    pictures = pictures_as(step.get("kind", "path"), step["pictures"])
    given = pictures if len(pictures) > 1 else pictures[0]
    if step.get("asynchronous"):
        answer = asyncio.run(client.infer_async(given, model_id=step["model"]))
    else:
        answer = client.infer(given, model_id=step["model"])
    return [read(one) for one in answer] if isinstance(answer, list) else read(answer)


def models(answer: Any) -> list[list[str]]:
    return [[model.model_id, model.task_type] for model in answer.models]


def run(client: InferenceHTTPClient, step: dict[str, Any]) -> Any:
    match step["do"]:
        case "info":
            return client.get_server_info().name
        case "models":
            return models(client.list_loaded_models())
        case "load":
            return models(client.load_model(step["model"], set_as_default=True))
        case "describe":
            found = client.get_model_description(step["model"])
            return [found.model_id, found.task_type]
        case "unload":
            return models(client.unload_model(step["model"]))
        case "infer":
            return infer(client, step)
    raise SystemExit(f"no such step: {step['do']}")


def attempt(client: InferenceHTTPClient, step: dict[str, Any]) -> dict[str, Any]:
    try:
        with client.use_configuration(InferenceConfiguration(**step.get("wishes", {}))):
            return {"answer": run(client, step)}
    except HTTPCallErrorError as error:
        return {
            "error": type(error).__name__,
            "status": error.status_code,
            "message": error.api_message,
        }
    except HTTPClientError as error:
        return {"error": type(error).__name__, "status": 0, "message": str(error)}


def main() -> None:
    job = json.load(sys.stdin)
    client = InferenceHTTPClient(job["server"], api_key=job["key"])
    json.dump([attempt(client, step) for step in job["steps"]], sys.stdout)


if __name__ == "__main__":
    main()
