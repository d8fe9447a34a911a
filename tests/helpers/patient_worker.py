"""`python -m tests.helpers.patient_worker`: a worker whose requests to the cluster never time out.

One that was frozen for a minute finds all its requests timed out and goes no further. This one goes on where
it stood, as one does whose freeze was just short enough; what it may still do is then up to lease and fence.
"""

from functools import partial
from unittest.mock import patch

from clusters.values import ClusterConfig
from worker import main

if __name__ == "__main__":
    with patch.object(main, "ClusterConfig", partial(ClusterConfig, request_timeout=3600.0)):
        main.main()
