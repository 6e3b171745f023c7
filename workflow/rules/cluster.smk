import os
from pathlib import Path

from pipeline_lib.runtime import slurm

RESOURCES = ("slurm_partition", "slurm_account", "qos", "constraint", "gpu", "gpu_model", "mem_mb", "runtime")


def sbatch(job, executor):
    """Return the command with which the executor will submit a job or a group, without its script."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string
    from snakemake_executor_plugin_slurm.validation import validate_slurm_extra

    validate_slurm_extra(job)

    parameters = {
        "run_uuid": executor.run_uuid,
        "slurm_logfile": os.devnull,
        "comment_str": job.name,
        "account": next(executor.get_account_arg(job)),
        "partition": executor.get_partition_arg(job),
        "workdir": workflow.workdir_init,
    }
    return get_submit_command(job, parameters, workflow.executor_settings) + set_gres_string(job)


def requests(executor):
    """Return the requests of this run's jobs and groups to SLURM, one for each rule and set of resources."""
    distinct = {}
    for job in workflow.dag.needrun_jobs():
        if not job.is_local:
            submitted = workflow.dag.get_job_group(job) or job
            resources = {key: submitted.resources[key] for key in RESOURCES if submitted.resources.get(key) is not None}
            resources["threads"] = submitted.threads
            distinct[job.rule.name, *resources.items()] = (submitted, job.rule, resources)
    return [
        slurm.Request(sbatch(submitted, executor), rule.name, Path(rule.snakefile), resources)
        for submitted, rule, resources in distinct.values()
    ]


def query_min_job_age_once():
    """Make the plugin (2.8) query the cluster's MinJobAge only once, not each time before it queries its jobs.

    Without an answer, the plugin uses sacct. So while SLURM's controller is down, it would use a database that may not
    exist, and forget its jobs for ever (tests/slurm, lose_the_controller).
    """
    import snakemake_executor_plugin_slurm as plugin

    age = plugin.get_min_job_age()
    slurm.refuse_forgetful(age)
    plugin.get_min_job_age = lambda: age


def start_on_slurm():
    """Refuse requests that would fail later, and record this run for `slurm/recover.py`."""
    slurm.refuse_absence()
    executor = workflow.scheduler._executor
    slurm.refuse_company(Path())
    query_min_job_age_once()
    slurm.refuse_impossible(requests(executor), Path(workflow.basedir) / "slurm/config.yaml")
    slurm.record(Path(), slurm.Run.here(executor.run_uuid))


onstart:
    if workflow.executor_plugin.name == "slurm":
        try:
            start_on_slurm()
        except slurm.ClusterError as error:
            raise WorkflowError(str(error))
