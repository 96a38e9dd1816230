"""Which stages each task goes through, in order, and where each is announced."""

from __future__ import annotations

from dpn.work.pipeline import Pipelines, StageSpec
from models.work import Task

COPY = StageSpec(Task.REPLICATION, "copy", worker="copy", topic="dpn_copy_topic", stages=True)
VALIDATE = StageSpec(Task.REPLICATION, "validate", worker="validate", topic="dpn_validation_topic", staged=True)
STORE = StageSpec(
    Task.REPLICATION, "store", worker="replication-store", topic="dpn_replication_store_topic", staged=True
)
PACKAGE = StageSpec(Task.INGEST, "package", worker="package", topic="dpn_package_topic", stages=True)
INGEST_STORE = StageSpec(Task.INGEST, "store", worker="ingest-store", topic="dpn_ingest_store_topic", staged=True)
INGEST_RECORD = StageSpec(Task.INGEST, "record", worker="ingest-record", topic="dpn_record_topic", staged=True)
RESTORE_INIT = StageSpec(
    Task.FIXITY, "restore-init", worker="glacier-restore-init", topic="dpn_glacier_restore_topic"
)
RETRIEVE = StageSpec(Task.FIXITY, "retrieve", worker="s3-retriever", topic="dpn_s3_download_topic", stages=True)
CHECK = StageSpec(Task.FIXITY, "check", worker="fixity-checker", topic="dpn_fixity_topic", staged=True)
RESTORE_READY = StageSpec(Task.RESTORE, "restore-init", worker="glacier-restore-init", topic="dpn_restore_topic")
RESTORE_RETRIEVE = StageSpec(
    Task.RESTORE, "retrieve", worker="s3-retriever", topic="dpn_restore_download_topic", stages=True
)
RESTORE_CHECK = StageSpec(
    Task.RESTORE, "check", worker="fixity-checker", topic="dpn_restore_check_topic", staged=True
)
DELIVER = StageSpec(
    Task.RESTORE, "deliver", worker="restore-deliver", topic="dpn_restore_deliver_topic", staged=True
)
ASK = StageSpec(Task.RECOVERY, "ask", worker="recovery", topic="dpn_recovery_topic")
FETCH = StageSpec(Task.RECOVERY, "fetch", worker="recovery", topic="dpn_recovery_fetch_topic", stages=True)
JUDGE = StageSpec(Task.RECOVERY, "judge", worker="recovery", topic="dpn_recovery_judge_topic", staged=True)
SETTLE = StageSpec(Task.RECOVERY, "settle", worker="recovery", topic="dpn_recovery_settle_topic", staged=True)
TELL = StageSpec(Task.NOTICE, "tell", worker="tell", topic="dpn_tell_topic")
"""Every worker runs it beside its own stage: what we owe a peer needs no worker of its own."""

PIPELINES = Pipelines(
    {
        Task.REPLICATION: (COPY, VALIDATE, STORE),
        Task.INGEST: (PACKAGE, INGEST_STORE, INGEST_RECORD),
        Task.FIXITY: (RESTORE_INIT, RETRIEVE, CHECK),
        Task.RESTORE: (RESTORE_READY, RESTORE_RETRIEVE, RESTORE_CHECK, DELIVER),
        Task.RECOVERY: (ASK, FETCH, JUDGE, SETTLE),
        Task.NOTICE: (TELL,),
    }
)
