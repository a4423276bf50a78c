"""The event log of a ShapeEnv: recorded, replayed, compared, saved, and minimized."""

from symfx.recording.log import SCHEMA, EventLog, EventLogError, minimize
from symfx.symbolic_shapes.environment.comparison import NotEqualError, shape_env_check_state_equal
from symfx.symbolic_shapes.environment.events import (
    FakeTensorMeta,
    ShapeEnvEvent,
    replay_shape_env_events,
)
from symfx.symbolic_shapes.environment.recorder import record_shapeenv_event, recording_shape_envs

__all__ = [
    "SCHEMA",
    "EventLog",
    "EventLogError",
    "FakeTensorMeta",
    "NotEqualError",
    "ShapeEnvEvent",
    "minimize",
    "record_shapeenv_event",
    "recording_shape_envs",
    "replay_shape_env_events",
    "shape_env_check_state_equal",
]
