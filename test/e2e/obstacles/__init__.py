# SPDX-License-Identifier: Apache-2.0
"""What stands between a client and its relay, as a list of scenarios: a function each, which sets the obstacle up in a Lab
and says how culvert is told of it."""
from dataclasses import dataclass, field
from typing import Callable

SCENARIOS = []


@dataclass(frozen=True)
class Way:
    """How the agent is started, beyond -L."""
    flags: tuple = ()
    env: dict = field(default_factory=dict)
    prepare: Callable = None  # prepare(agent), before it starts
    check: Callable = None  # looks on behind it
    talk: Callable = None   # talk(agent, data) returns what came back; an ordinary echo otherwise


@dataclass(frozen=True)
class Scenario:
    obstacle: str
    program: str     # the real ones that make it
    does: str        # what culvert does there
    set_up: Callable
    says: str = None # for a refusal: all that it says
    status: int = 0  # and its exit status
    long: bool = False

    @property
    def slug(self):
        return self.set_up.__name__


def scenario(obstacle, program, does, **more):
    def add(set_up):
        SCENARIOS.append(Scenario(obstacle, program, does, set_up, **more))
        return set_up
    return add


def by(*proxies, flags=(), env=None, **more):
    """Through these proxies, in order."""
    return Way((*(word for proxy in proxies for word in ("--proxy", proxy)), *flags), env or {}, **more)
