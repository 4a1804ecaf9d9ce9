"""Which allocator a trainer is started with."""

from luthier.executors import local


def test_allocator_with_tcmalloc_installed_is_preloaded_beside_the_tunables() -> None:
    chosen = local.allocator({"tcmalloc_minimal": "libtcmalloc_minimal.so.4"}.get)
    assert chosen["LD_PRELOAD"] == "libtcmalloc_minimal.so.4"
    assert chosen["MALLOC_MMAP_MAX_"] == "0"


def test_allocator_with_the_whole_of_gperftools_alone_takes_that() -> None:
    assert local.allocator({"tcmalloc": "libtcmalloc.so.4"}.get)["LD_PRELOAD"] == "libtcmalloc.so.4"


def test_allocator_without_tcmalloc_preloads_nothing() -> None:
    chosen = local.allocator(lambda name: None)
    assert "LD_PRELOAD" not in chosen
    assert chosen["MALLOC_TRIM_THRESHOLD_"] == str(1 << 40)
