"""Two processes of one job on this machine."""

import socket


def job_of_two() -> list[dict[str, str]]:
    """What the environment of each process says about the job; they meet at a free port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    return [
        {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(number),
        }
        for number in range(2)
    ]
