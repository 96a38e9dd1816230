"""Where items are announced: one topic a stage, one more for each volume, all of them names that nsqd takes."""

from __future__ import annotations

import re

import pytest

from dpn.broker.nsq import NAME_MAX_CHARACTERS, channel_of
from dpn.staging.settings import VOLUME_NAME
from dpn.work.pipeline import StageSpec
from models.manifests import ManifestUnreadable
from models.manifests.base import MANIFEST_VERSION
from models.work import Task
from workers.notice import TELL
from workers.pipelines import PIPELINES
from workers.replication import COPY, STORE, VALIDATE

NSQ_NAME = re.compile(r"[.a-zA-Z0-9_-]{1,64}\Z")
LONGEST_VOLUME = "v" * 32


def test_topics_and_channels_have_the_names_that_operators_know() -> None:
    assert [(spec.queue, channel_of(spec.queue)) for spec in (COPY, VALIDATE, STORE)] == [
        ("dpn_copy_topic", "dpn_copy_channel"),
        ("dpn_validation_topic", "dpn_validation_channel"),
        ("dpn_replication_store_topic", "dpn_replication_store_channel"),
    ]


@pytest.mark.parametrize("spec", PIPELINES.all_specs(), ids=lambda spec: spec.name)
def test_nsqd_takes_every_name_on_any_volume(spec: object) -> None:
    assert VOLUME_NAME.match(LONGEST_VOLUME)
    for name in (*spec.queues([LONGEST_VOLUME]), channel_of(spec.queue)):  # type: ignore[attr-defined]
        assert NSQ_NAME.match(name)
        assert len(name) <= NAME_MAX_CHARACTERS


def test_a_worker_hears_its_stage_and_the_volumes_that_it_mounts() -> None:
    assert VALIDATE.queues(["b", "a"]) == [
        "dpn_validation_topic",
        "dpn_validation_topic.a",
        "dpn_validation_topic.b",
    ]
    assert VALIDATE.queue_on(None) == "dpn_validation_topic"
    assert VALIDATE.queue_on("a") == "dpn_validation_topic.a"


def test_what_is_wrong_with_a_damaged_manifest_is_said_without_the_librarys_words() -> None:
    damaged = {"manifest_version": MANIFEST_VERSION, "staged": {"volume": "main"}, "restarts": "x"}
    with pytest.raises(
        ManifestUnreadable, match=r"^the manifest is damaged: restarts: .*; staged.path: "
    ) as refused:
        PIPELINES.read_manifest("replication", damaged)
    assert not any(word in str(refused.value) for word in ("pydantic", "Value error", "validation error"))


def test_stages_follow_each_other_and_the_last_is_followed_by_none() -> None:
    assert PIPELINES.first(Task.REPLICATION) == PIPELINES.staging_stage("replication") == COPY
    assert [PIPELINES.after("replication", name) for name in ("copy", "validate", "store")] == [
        VALIDATE,
        STORE,
        None,
    ]
    assert PIPELINES.after("notice", "tell") is None
    assert TELL in PIPELINES.all_specs()


@pytest.mark.parametrize(("task", "stage"), [("replication", "tell"), ("replication", "x"), ("notice", "copy")])
def test_a_stage_that_a_task_does_not_have_is_an_error(task: str, stage: str) -> None:
    with pytest.raises(KeyError, match=f"task {task} has no stage {stage}"):
        PIPELINES.spec(task, stage)


def test_only_stages_that_touch_staged_bytes_are_bound_to_volumes() -> None:
    assert [spec.may_lie_on_volume for spec in (COPY, VALIDATE, STORE, TELL)] == [True, True, True, False]


def test_no_stage_that_another_node_can_draw_out_may_take_all_slots_of_a_worker() -> None:
    """Each asks that node's registry, or fetches from it: an answer that drips holds its slot for minutes."""
    paced = {(spec.task, spec.name) for spec in PIPELINES.all_specs() if spec.other_nodes_pace}
    assert paced == {
        (Task.REPLICATION, "copy"),
        (Task.REPLICATION, "store"),
        (Task.RESTORE, "restore-init"),
        (Task.RESTORE, "deliver"),
        (Task.RECOVERY, "fetch"),
        (Task.NOTICE, "tell"),
    }


def test_a_stage_that_requesters_share_stages_nothing() -> None:
    """Whose turn it is does not know who mounts what."""
    with pytest.raises(ValueError, match="turns do not know of volumes"):
        StageSpec("toy", "send", worker="toy", queue="toy", shared=True, staged=True)
