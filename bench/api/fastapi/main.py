"""The hello service as one writes it with FastAPI and asyncpg, whose connections prepare each
statement once. A peer for the benchmark, with the rules of the api."""

import os
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Annotated

import asyncpg
from fastapi import FastAPI, HTTPException, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

READ = "SELECT date_of_birth FROM hello_users WHERE username = $1"
WRITE = """INSERT INTO hello_users (username, date_of_birth) VALUES ($1, $2)
    ON CONFLICT (username) DO UPDATE SET date_of_birth = excluded.date_of_birth, updated_at = now()"""

Username = Annotated[str, Path(pattern="^[A-Za-z]{1,100}$")]


class Person(BaseModel):
    date_of_birth: Annotated[date, Field(alias="dateOfBirth")]


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=16, max_size=16) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(RequestValidationError)
async def invalid(_request: Request, error: RequestValidationError) -> PlainTextResponse:
    return PlainTextResponse(str(error), status_code=400)


@app.get("/readyz")
async def ready() -> dict[str, str]:
    return {"status": "ready"}


@app.get("/hello/{username}")
async def greet(username: Username) -> dict[str, str]:
    born = await app.state.pool.fetchval(READ, username)
    if born is None:
        raise HTTPException(404, f"User {username} not found")
    days = days_to_birthday(born, datetime.now(UTC).date())
    wish = f"Your birthday is in {days} day(s)" if days else "Happy birthday!"
    return {"message": f"Hello, {username}! {wish}"}


@app.put("/hello/{username}", status_code=204, response_class=Response)
async def remember(username: Username, person: Person) -> None:
    if person.date_of_birth >= datetime.now(UTC).date():
        raise HTTPException(400, "dateOfBirth must be a date before today")
    await app.state.pool.execute(WRITE, username, person.date_of_birth)


def days_to_birthday(born: date, today: date) -> int:
    following = birthday(born, today.year)
    if following < today:
        following = birthday(born, today.year + 1)
    return (following - today).days


def birthday(born: date, year: int) -> date:
    """Returns the day in a year; 29 February is the 28th where there is none."""
    try:
        return born.replace(year=year)
    except ValueError:
        return born.replace(year=year, day=28)
