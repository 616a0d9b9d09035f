"""The plain reference: what one writes with FastAPI, PyJWT and boto3 without thinking of speed.

`python -m uvicorn --factory benchmarks.reference:on_disk`, or `:before_bucket`. Durable only with
REFERENCE_DURABLE, not safe against hostile paths, and not for use: only for comparison.
"""

import hashlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Annotated, BinaryIO

import boto3
import httpx
import jwt
from botocore.config import Config
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, UploadFile
from fastapi.responses import FileResponse, RedirectResponse

ALGORITHM = "HS256"
IMAGES = "/api/v1/storage/images"
_PIECE_BYTES = 1024**2


def _authorize(authorization: Annotated[str, Header()] = "") -> None:
    """Check the token anew for each request, as every tutorial does."""
    try:
        jwt.decode(
            authorization.removeprefix("Bearer "),
            os.environ["REFERENCE_SECRET"],
            algorithms=[ALGORITHM],
            options={"require": ["exp"]},
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error


def _save_durably(file: BinaryIO, target: Path) -> str:
    """Another file is written, synced and renamed, and the folder synced; the SHA-256 is known."""
    staged, digest = target.with_name(f".{uuid.uuid4().hex}"), hashlib.sha256()
    with staged.open("wb") as out:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            out.write(piece)
        out.flush()
        os.fsync(out.fileno())
    staged.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    return digest.hexdigest()


def on_disk() -> FastAPI:
    """Images in a folder."""
    app = FastAPI(dependencies=[Depends(_authorize)])
    root, durable = Path(os.environ["REFERENCE_ROOT"]), "REFERENCE_DURABLE" in os.environ
    webhook, client = os.environ.get("REFERENCE_WEBHOOK"), httpx.Client(trust_env=False)

    @app.get(IMAGES)
    def list_images(prefix: str = "", start_after: str = "", limit: int = 1000) -> list[str]:
        keys = []
        for folder, _, names in os.walk(root):
            for name in names:
                key = os.path.relpath(os.path.join(folder, name), root)
                if key.startswith(prefix) and key > start_after:
                    keys.append(key)
        return sorted(keys)[:limit]

    @app.api_route(IMAGES + "/{path:path}", methods=["GET", "HEAD"])
    async def get_image(path: str) -> FileResponse:
        if not (root / path).is_file():
            raise HTTPException(404)
        return FileResponse(root / path)

    @app.post(IMAGES + "/{path:path}")
    def save_image(path: str, file: UploadFile, tasks: BackgroundTasks) -> dict[str, str]:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if webhook:
            tasks.add_task(client.post, webhook, json={"path": path})
        if durable:
            return {"path": path, "sha256": _save_durably(file.file, root / path)}
        with (root / path).open("wb") as target:
            shutil.copyfileobj(file.file, target)
        return {"path": path}

    return app


def before_bucket() -> FastAPI:
    """Images in a bucket, by boto3 in FastAPI's threads."""
    app = FastAPI(dependencies=[Depends(_authorize)])
    bucket = os.environ["R2_BUCKET_NAME"]
    client = boto3.client(
        "s3",
        endpoint_url=os.environ["R2_ENDPOINT_URL"],
        aws_access_key_id=os.environ["R2_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["R2_SECRET_ACCESS_KEY"],
        region_name="auto",
        config=Config(
            max_pool_connections=64,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )

    @app.get(IMAGES + "/{path:path}")
    def get_image(path: str) -> RedirectResponse:
        where = {"Bucket": bucket, "Key": f"compute/{path}"}
        return RedirectResponse(client.generate_presigned_url("get_object", where), 302)

    @app.post(IMAGES + "/{path:path}")
    def save_image(path: str, file: UploadFile) -> dict[str, str]:
        client.put_object(Bucket=bucket, Key=f"compute/{path}", Body=file.file)
        return {"path": path}

    return app
