"""An action for one job, of which an error stops neither the others nor the loop."""

import logging
from collections.abc import Callable

from luthier.core.errors import LuthierError, NoSpace, Unavailable
from luthier.core.models import Job, JobError
from luthier.service.context import Context
from luthier.service.jobs import runs
from luthier.service.shutdown import Stopped

logger = logging.getLogger(__name__)


def guarded(context: Context, job: Job, action: Callable[[Job], object]) -> None:
    """Does the action for one job. A LuthierError fails the job, except a full disk and what cannot be reached now,
    which are logged like any other exception; only Stopped is raised.
    """
    try:
        action(job)
    except Stopped:
        raise
    except (NoSpace, Unavailable) as error:
        # Not an error of the job, and its progress is saved: a later pass continues once there is room.
        logger.error("job delayed id=%s %s", job.id, error)
    except LuthierError as error:
        runs.fail(context, job, JobError(error.code, error.message, error.param))
    except Exception:
        logger.exception("tick failed job=%s", job.id)
