"""A job's request as it was sent, for people to read and to send again."""

from luthier.service.job_views.job_details import JobDetails


def sent(details: JobDetails) -> dict[str, object]:
    """The body of the request by the names of the wire; what was not sent is left out."""
    job, asked = details.job, details.asked
    chosen = (
        {}
        if asked is None
        else {
            "n_epochs": asked.n_epochs,
            "batch_size": asked.batch_size,
            "learning_rate_multiplier": asked.learning_rate_multiplier,
            "beta": asked.beta,
        }
    )
    hyperparameters = {name: value for name, value in chosen.items() if value is not None}
    body: dict[str, object | None] = {
        "model": job.requested_model,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "method": {"type": str(job.method)} if job.method_sent else None,
        "hyperparameters": hyperparameters or None,
        "seed": job.seed if details.seed_sent else None,
        "suffix": job.suffix,
        "early_stopping": None if job.early_stop_patience is None else {"patience": job.early_stop_patience},
        **job.extras,
    }
    return {name: value for name, value in body.items() if value is not None}
