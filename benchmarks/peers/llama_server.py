"""
Runs llama.cpp's server from its wheel on PyPI: ``llama_server.py --model F --port P …``.

xllamacpp contains llama-server as a library without its command line, which this script provides;
the options are llama-server's own, in addition to ``--no-webui --cache-ram 0
--no-cache-idle-slots --ctx-checkpoints 0 --fit off``. The wheel is built for any processor with
AVX2. The script runs in an environment without stillhouse, until SIGTERM.
"""

from __future__ import annotations

import argparse
import signal

import xllamacpp


def main() -> None:
    """Serve until SIGTERM."""
    arguments = parse_arguments()
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.hostnames, params.port = ["127.0.0.1"], arguments.port
    params.n_parallel, params.n_ctx = arguments.parallel, arguments.ctx_size
    params.n_batch, params.n_ubatch = arguments.batch_size, arguments.ubatch_size
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.flash_attn_type = getattr(
        xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{arguments.flash_attn}"
    )
    params.kv_unified = arguments.kv_unified
    params.cont_batching = True
    params.ui, params.cache_ram_mib, params.cache_idle_slots = False, 0, False
    params.n_ctx_checkpoints, params.fit_params, params.verbosity = 0, False, 1
    server = xllamacpp.Server(params)
    print(f"ready on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True, help="slots")
    parser.add_argument("--ctx-size", type=int, required=True, help="tokens, of all slots together")
    parser.add_argument("--batch-size", type=int, default=2048)
    parser.add_argument("--ubatch-size", type=int, default=512)
    parser.add_argument("--flash-attn", choices=["AUTO", "ENABLED", "DISABLED"], default="AUTO")
    parser.add_argument("--kv-unified", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
