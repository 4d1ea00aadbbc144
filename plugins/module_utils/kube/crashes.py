# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the last words of a crashed container mean. Pure: a log in, a problem out.

The texts are those of vLLM, PyTorch, huggingface_hub and client-go; the figures behind the remedies are worked out for
google/gemma-2b-it on a T4 (the sampler's warm-up sorts max_num_seqs x vocabulary x 8 bytes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.llmd.gke.plugins.module_utils.kube.problems import Problem


@dataclass(frozen=True)
class Rule:
    """One recognisable way to die. ``pattern`` is searched in the whole log, case-insensitively."""

    code: str
    pattern: str
    what: str
    remedy: str


RULES = (
    Rule(
        "GPU_OUT_OF_MEMORY",
        r"torch\.(cuda\.)?OutOfMemoryError|CUDA out of memory|No available memory for the cache blocks"
        r"|larger than the maximum number of tokens that can be stored in KV cache",
        "The model server ran out of GPU memory while starting.",
        "Lower llmd_max_num_seqs (64 instead of vLLM's 256 frees most), then llmd_gpu_memory_utilization (0.85) and"
        " llmd_max_model_len (2048); or take a GPU with more memory.",
    ),
    Rule(
        "HF_MODEL_GATED",
        r"GatedRepoError|Access to model .* is restricted|Cannot access gated repo|gated repo"
        r"|not in the authorized list",
        "The Hugging Face token may not read this gated model.",
        "Open the model's page on huggingface.co with the token's account, accept its licence, then run again.",
    ),
    Rule(
        "HF_TOKEN_REFUSED",
        r"Invalid user token|401 Client Error.*huggingface|Invalid username or password"
        r"|Invalid credentials in Authorization header",
        "Hugging Face refuses the token.",
        "Set llmd_hf_token (or the environment variable HF_TOKEN) to a valid read token, then run again.",
    ),
    Rule(
        "HF_MODEL_NOT_FOUND",
        r"RepositoryNotFoundError|404 Client Error.*huggingface"
        r"|is not a local folder and is not a valid model identifier",
        "The model does not exist on Hugging Face (or the token may not see it).",
        "Check the spelling of llmd_model (owner/name) and what the token may read.",
    ),
    Rule(
        "HF_RATE_LIMITED",
        r"429 Client Error.*huggingface|Too Many Requests.*huggingface",
        "Hugging Face limits our downloads.",
        "Start fewer replicas at once, or keep the model on a volume (llmd_model_cache).",
    ),
    Rule(
        "HF_UNREACHABLE",
        r"We couldn't connect to '?https?://[^ ]*hugging|LocalEntryNotFoundError|Failed to resolve '?[^ ]*hugging",
        "The model server cannot reach Hugging Face.",
        "Give the nodes a way out (Cloud NAT for private nodes), or set HF_ENDPOINT to a mirror.",
    ),
    Rule(
        "GPU_DTYPE_UNSUPPORTED",
        r"Bfloat16 is only supported on GPUs with compute capability"
        r"|does not support (dtype )?(torch\.)?(float16|bfloat16)",
        "This GPU cannot compute in the model's number format.",
        "Set llmd_dtype to half (a T4 has no bfloat16); Gemma 2 and 3 need a newer GPU.",
    ),
    Rule(
        "GPU_ATTENTION_UNSUPPORTED",
        r"FlashAttention only supports Ampere|FlashInfer[^\n]*(sm_?75|compute capability|not support)"
        r"|No valid attention backend",
        "The attention kernels that vLLM chose do not run on this GPU.",
        "Choose another backend by llmd_helmfile_values_ms: environment VLLM_ATTENTION_BACKEND=TRITON_ATTN, with newer"
        " vLLM the argument --attention-backend TRITON_ATTN; or take a newer GPU.",
    ),
    Rule(
        "SHARED_MEMORY_TOO_SMALL",
        r"No space left on device[^\n]*/dev/shm|/dev/shm[^\n]*No space left|unable to (open|allocate) shared memory",
        "The container's shared memory is too small for several GPUs.",
        "Mount an emptyDir with medium Memory at /dev/shm (llmd_helmfile_values_ms: decode.volumes, volumeMounts).",
    ),
    Rule(
        "GPU_DRIVER_MISMATCH",
        r"Error 803|system has unsupported display driver|libcuda\.so\.1: cannot open shared object",
        "CUDA in the image and the driver on the node do not fit together.",
        "Let GKE install the driver (llmd_gpu.driver: default or latest) and keep /usr/local/nvidia/lib64 first in"
        " LD_LIBRARY_PATH.",
    ),
    Rule(
        "GPU_NOT_VISIBLE",
        r"No CUDA GPUs are available|Failed to infer device type|no NVIDIA driver on your system",
        "The model server sees no GPU.",
        "Check that the pod asks for nvidia.com/gpu and that the node's driver is installed (llmd_gpu.driver).",
    ),
    Rule(
        "MODEL_SERVER_ARGUMENTS",
        r"vllm[^\n]*: error: (unrecognized arguments|argument)",
        "The model server does not know one of its arguments.",
        "Compare llmd_model_server_args with the vLLM version of the image.",
    ),
    Rule(
        "PICKER_RBAC_FORBIDDEN",
        r"failed to list .*is forbidden: User"
        r"|cannot (list|watch|get) resource \\?\"(pods|inferencepools|inferenceobjectives)",
        "The endpoint picker may not read what it needs from the Kubernetes API.",
        "Its Role was not created: run as an identity with roles/container.admin; the failed release is replaced then.",
    ),
    Rule(
        "PICKER_CRD_MISSING",
        r"no matches for kind \"Inference(Objective|Pool|ModelRewrite)\"|could not find the requested resource",
        "The endpoint picker misses a CRD.",
        "Run role llmd.gke.gateway_crds; the picker recovers by itself after that.",
    ),
)

_KEY_LINES = re.compile(r"error|exception|fatal|forbidden|denied|killed|memory|refus", re.IGNORECASE)


def last_words(log: str, limit: int = 6) -> str:
    """The few lines of a log that say most: the last ones that look like an error, else just the last ones."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if _KEY_LINES.search(line)]
    return "\n".join((telling or lines)[-limit:])[:2000]


def explain_crash(log: str, exit_code: int, reason: str, where: str) -> Problem:
    """Why a container died. exit_code and reason from lastState.terminated (reason "OOMKilled", "Error" ...)."""
    words = last_words(log)
    for rule in RULES:
        match = re.search(rule.pattern, log, re.IGNORECASE)
        if match:
            line = next((text.strip() for text in log.splitlines() if match.group(0).splitlines()[0] in text), words)
            return Problem(rule.code, rule.what, line[:1000], rule.remedy, where, fatal=True, evidence=words)
    if reason == "OOMKilled" or exit_code == 137:
        return Problem(
            "POD_OUT_OF_MEMORY",
            "The container was killed: it used more main memory than it may.",
            words or f"exit code {exit_code}, reason {reason}",
            "Raise the container's memory limit, or take a machine type with more memory (llmd_gpu.machine_type).",
            where,
            fatal=True,
            evidence=words,
        )
    return Problem(
        "POD_CRASHES",
        "A container ends again and again; its words are not known to us.",
        words or f"exit code {exit_code}, reason {reason}; the log is empty",
        "Read the log in the evidence.",
        where,
        fatal=True,
        evidence=log[-4000:],
    )
