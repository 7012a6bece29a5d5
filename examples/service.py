"""A service for a trained model.

    pip install fastapi uvicorn
    MODEL=runs/spelling uvicorn service:app --app-dir examples
    curl -H 'Content-Type: application/json' -d '{"texts": ["thw house"]}' localhost:8000/predict

Requests are answered one after another, since a model that decodes uses all threads; `--workers 2`
answers two at a time, with a model each.
"""

import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

import freerun
from freerun.data import DataError

app = FastAPI()
model = freerun.load(os.environ["MODEL"])


class Request(BaseModel):
    """The sources of a request."""

    texts: list[str] = Field(max_length=64)


@app.post("/predict")
async def predict(request: Request) -> list[str]:
    """Return the output of each text; a text that cannot be read is an error of the client."""
    try:
        return [found.text for found in model.predict(request.texts)]
    except DataError as error:
        raise HTTPException(422, str(error)) from None
