"""The clock is set a day forward or back under a running service and corrected again: nothing expires by it."""

import pytest

from installed import Install, Installation

DAY = 86400


def expiring(service: Installation) -> str:
    """A file that is to live for two hours."""
    data = b"to live for two hours"
    with service.client() as client:
        expiry = {"anchor": "created_at", "seconds": 7200}
        id = client.files.create(file=("a.txt", data), purpose="user_data", expires_after=expiry).id
    service.acknowledged[id] = data
    return id


@pytest.mark.parametrize("jump", [DAY, pytest.param(-DAY, marks=pytest.mark.nightly)])
def test_clock_set_by_a_day_and_put_right_ends_no_file_and_no_upload(install: Install, jump: int) -> None:
    service = install(LUTHIER_UPLOAD_EXPIRY_S="7200")
    service.start()
    with service.client() as client:
        parts = []
        upload = client.uploads.create(bytes=6, filename="b.txt", mime_type="text/plain", purpose="user_data")
        parts.append(client.uploads.parts.create(upload.id, data=b"abc").id)
    before = expiring(service)
    service.upload()
    service.pass_hours(1, jump=jump)
    with service.client() as client:
        during = expiring(service)
        parts.append(client.uploads.parts.create(upload.id, data=b"def").id)
    service.kill()
    service.start()  # a restart makes it no better and no worse
    service.set_clocks(wall=service.ahead["wall"] - jump)
    with service.client() as client:
        done = client.uploads.complete(upload.id, part_ids=parts)
        assert done.file is not None
        service.acknowledged[done.file.id] = b"abcdef"
    assert service.lost() == []
    service.pass_hours(4)
    gone = {before, during} if jump < 0 else {before}  # made a day ahead, one lives a day longer: never shorter
    assert set(service.lost()) == gone, "what has had its time goes once the clock is right"
