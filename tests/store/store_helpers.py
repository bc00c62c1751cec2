"""What several tests of the store need."""


def status(store, run_id):
    return store.get_run(run_id).status
