from invariants.single_thread import one_thread  # noqa: F401
from workflow.workflow_cases import small_grids  # noqa: F401
