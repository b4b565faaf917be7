"""Chat templates of the form that each family has, written for the tests.

They put the same tokens in the same places and share what makes masks go wrong: a beginning of
text in the template, trimmed replies, a closing token when no reply is asked for, dates, reasoning
that earlier turns lose, markers that take in the header.
"""

_QWEN25 = (
    "{% if messages and messages[0].role != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_QWEN3 = (
    "{% set state = namespace(last=-1) %}"
    "{% for m in messages %}{% if m.role == 'user' %}{% set state.last = loop.index0 %}{% endif %}"
    "{% endfor %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' %}"
    "{% set parts = m.content.split('</think>') %}"
    "{% set thought = parts[0].split('<think>')[-1].strip('\n') if parts | length > 1 else '' %}"
    "{% if loop.index0 > state.last and (loop.last or thought) %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
    "{{ parts[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{% endif %}"
)
_SMOLLM3 = (
    "{% set system = messages[0].content if messages[0].role == 'system' else 'Be brief.' %}"
    "{% set quiet = '/no_think' in system %}"
    "{{ '<|im_start|>system\nToday: ' + strftime_now('%d %B %Y') + '\n' }}"
    "{{ system + '<|im_end|>\n' }}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}"
    "{% elif m.role == 'assistant' %}{% generation %}{{ '<|im_start|>assistant\n' }}"
    "{% if quiet %}{{ '<think>\n\n</think>\n' }}{% endif %}"
    "{{ m.content.lstrip('\n') + '<|im_end|>\n' }}{% endgeneration %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if quiet %}{{ '<think>\n\n</think>\n' }}{% endif %}{% endif %}"
)
_LLAMA32 = (
    "{{ bos_token }}"
    "{% set system = messages[0].content | trim if messages[0].role == 'system' else '' %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nToday: ' }}"
    "{{ (strftime_now('%d %b %Y') if strftime_now is defined else 'unknown') + '\n\n' }}"
    "{{ system + '<|eot_id|>' }}"
    "{% for m in messages %}{% if m.role != 'system' %}"
    "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{{ m.content | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_GEMMA3 = (
    "{{ bos_token }}"
    "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}"
    "{% set head = messages[0].content + '\n\n' %}"
    "{% else %}{% set rest = messages %}{% set head = '' %}{% endif %}"
    "{% for m in rest %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and model take turns') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ (head if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
_PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
_PHI4 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
_OLMO2 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% if m.role != 'assistant' or not loop.last %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
_GRANITE3 = (
    "{% if not messages or messages[0].role != 'system' %}"
    "{{ '<|start_of_role|>system<|end_of_role|>Today: ' + strftime_now('%B %d, %Y') }}"
    "{{ '<|end_of_text|>\n' }}{% endif %}"
    "{% for m in messages %}"
    "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)

TEMPLATES = {
    "smollm2": _QWEN25,
    "llama3.2": _LLAMA32,
    "smollm3": _SMOLLM3,
    "qwen2.5": _QWEN25,
    "qwen3": _QWEN3,
    "gemma3": _GEMMA3,
    "phi3": _PHI3,
    "phi4": _PHI4,
    "olmo2": _OLMO2,
    "granite3": _GRANITE3,
}
