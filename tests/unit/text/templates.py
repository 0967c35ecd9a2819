"""
Chat templates that write what the published ones do, written anew.

They keep what matters here: namespaces, loops over earlier messages, `split`, `trim`, `tojson`,
white space control and `raise_exception`. Branches for images and built-in tools are left out.
"""

R1 = (
    "{% if not add_generation_prompt is defined %}"
    "{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(system_prompt='') %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
    "{{bos_token}}{{ns.system_prompt}}"
    "{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}"
    "{% set content = message['content'] %}"
    "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}"
    "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}"
    "{%- endfor -%}"
    "{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}"
)

V31 = """\
{%- if not thinking is defined %}{% set thinking = false %}{% endif %}
{%- set ns = namespace(system='', has_system=false, after_user=false, after_tool=false) %}
{%- for message in messages if message['role'] == 'system' %}
  {%- set ns.system = ns.system + ('\\n\\n' if ns.has_system else '') + message['content'] %}
  {%- set ns.has_system = true %}
{%- endfor %}
{{- bos_token }}{{ ns.system }}
{%- for message in messages %}
  {%- if message['role'] == 'user' %}
    {%- set ns.after_tool = false %}
    {%- set ns.after_user = true %}
    {{- '<｜User｜>' + message['content'] }}
  {%- elif message['role'] == 'tool' %}
    {%- set ns.after_tool = true %}
    {%- set ns.after_user = false %}
    {{- '<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>' }}
  {%- elif message['role'] == 'assistant' %}
    {%- if ns.after_user %}{{ '<｜Assistant｜></think>' }}{% endif %}
    {%- set ns.after_user = false %}
    {%- set content = message['content'] %}
    {%- if message['tool_calls'] is defined and message['tool_calls'] is not none %}
      {%- set ns.after_tool = false %}
      {{- content if content is not none else '' }}{{ '<｜tool▁calls▁begin｜>' }}
      {%- for tool in message['tool_calls'] %}
        {{- '<｜tool▁call▁begin｜>' + tool['function']['name'] + '<｜tool▁sep｜>' }}
        {{- tool['function']['arguments'] + '<｜tool▁call▁end｜>' }}
      {%- endfor %}
      {{- '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
    {%- else %}
      {%- if not ns.after_tool and '</think>' in content %}
        {%- set content = content.split('</think>', 1)[1] %}
      {%- endif %}
      {%- set ns.after_tool = false %}
      {{- content + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt and ns.after_user and not ns.after_tool %}
  {{- '<｜Assistant｜>' + ('<think>' if thinking else '</think>') }}
{%- endif %}
"""

V31_TOOLS = V31.replace(
    "{{- bos_token }}",
    """\
{%- if tools is defined and tools is not none %}
  {%- set text %}


## Tools
You have access to the following tools:
{% for tool in tools %}

### {{ tool.function.name }}
Description: {{ tool.function.description }}

Parameters: {{ tool.function.parameters | tojson }}
{% endfor %}

IMPORTANT: ALWAYS adhere to this exact format for tool use:
<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments\
<｜tool▁call▁end｜>{{ '{{additional_tool_calls}}' }}<｜tool▁calls▁end｜>

Where:

- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces
{% endset %}
  {%- set ns.system = ns.system + text %}
{%- endif %}
{{- bos_token }}""",
)

LLAMA3 = (
    "{% for message in messages %}"
    "{% if (message['role'] == 'assistant') != (loop.index0 % 2 == 1) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}"
    "{% endif %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)

LLAMA31 = """\
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = "26 Jul 2024" %}{% endif %}
{%- set system_message = "" %}
{%- if messages[0]['role'] == 'system' %}
  {%- set system_message = messages[0]['content'] | trim %}
  {%- set messages = messages[1:] %}
{%- endif %}
{%- macro head(role) %}{{ '<|start_header_id|>' + role + '<|end_header_id|>\\n\\n' }}{% endmacro %}
{{- head('system') }}
{%- if tools is not none %}{{ "Environment: ipython\\n" }}{% endif %}
{{- "Cutting Knowledge Date: December 2023\\nToday Date: " + date_string + "\\n\\n" }}
{{- system_message + "<|eot_id|>" }}
{%- if tools is not none %}
  {%- if messages | length == 0 %}
    {{- raise_exception("Cannot put tools in the first user message when there is none!") }}
  {%- endif %}
  {{- head('user') + "Given the following functions, please respond with a JSON for a function" }}
  {{- " call with its proper arguments that best answers the given prompt.\\n\\nRespond in the" }}
  {{- ' format {"name": function name, "parameters": dictionary of argument name and its value}.' }}
  {{- "Do not use variables.\\n\\n" }}
  {%- for t in tools %}
    {{- t | tojson(indent=4) }}
    {{- "\\n\\n" }}
  {%- endfor %}
  {{- messages[0]['content'] | trim + "<|eot_id|>" }}
  {%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
  {%- if 'tool_calls' in message %}
    {%- if not message.tool_calls | length == 1 %}
      {{- raise_exception("This model only supports single tool-calls at once!") }}
    {%- endif %}
    {%- set call = message.tool_calls[0].function %}
    {{- head('assistant') + '{"name": "' + call.name + '", "parameters": ' }}
    {{- call.arguments | tojson }}
    {{- "}<|eot_id|>" }}
  {%- elif message.role == "tool" or message.role == "ipython" %}
    {{- head('ipython') }}
    {%- if message.content is mapping or message.content is iterable %}
      {{- message.content | tojson }}
    {%- else %}
      {{- message.content }}
    {%- endif %}
    {{- "<|eot_id|>" }}
  {%- else %}
    {{- head(message['role']) + message['content'] | trim + '<|eot_id|>' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ head('assistant') }}{% endif %}
"""

QWEN_TOOLS = """\
{{- "# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are" }}
  {{- " provided with function signatures within <tools></tools> XML tags:\\n<tools>" }}
  {%- for tool in tools %}
    {{- "\\n" }}
    {{- tool | tojson }}
  {%- endfor %}
  {{- "\\n</tools>\\n\\nFor each function call, return a json object with function name and" }}
  {{- " arguments within <tool_call></tool_call> XML tags:\\n<tool_call>\\n{\\"name\\": " }}
  {{- "<function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call><|im_end|>\\n" }}"""

QWEN_TOOL_RESULT = """\
{%- elif message.role == "tool" %}
    {%- if loop.first or messages[loop.index0 - 1].role != "tool" %}
      {{- '<|im_start|>user' }}
    {%- endif %}
    {{- '\\n<tool_response>\\n' }}
    {{- message.content }}
    {{- '\\n</tool_response>' }}
    {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}
      {{- '<|im_end|>\\n' }}
    {%- endif %}"""

QWEN25 = (
    """\
{%- set system = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% endif %}
{{- '<|im_start|>system\\n' + system }}
{%- if tools %}
  {{- "\\n\\n" }}
  """
    + QWEN_TOOLS
    + """
{%- else %}
  {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
  {%- if message.role == "user" or (message.role == "system" and not loop.first) or \
(message.role == "assistant" and not message.tool_calls) %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
  {%- elif message.role == "assistant" %}
    {{- '<|im_start|>' + message.role }}
    {%- if message.content %}{{ '\\n' + message.content }}{% endif %}
    {%- for tool_call in message.tool_calls %}
      {%- if tool_call.function is defined %}{% set tool_call = tool_call.function %}{% endif %}
      {{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
      {{- tool_call.arguments | tojson }}
      {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
  """
    + QWEN_TOOL_RESULT
    + """
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
)

QWEN3 = (
    """\
{%- if tools %}
  {{- '<|im_start|>system\\n' }}
  {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
  """
    + QWEN_TOOLS
    + """
{%- elif messages[0].role == 'system' %}
  {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(searching=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
  {%- if ns.searching and message.role == "user" and not \
(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
    {%- set ns.searching = false %}
    {%- set ns.last_query = (messages|length - 1) - loop.index0 %}
  {%- endif %}
{%- endfor %}
{%- for message in messages %}
  {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
  {%- elif message.role == "assistant" %}
    {%- set content = message.content %}
    {%- set thoughts = '' %}
    {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
      {%- set thoughts = message.reasoning_content %}
    {%- elif '</think>' in content %}
      {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
      {%- set thoughts = thoughts.lstrip('\\n') %}
      {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if loop.index0 > ns.last_query and (loop.last or thoughts) %}
      {{- '<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
    {%- else %}
      {{- content }}
    {%- endif %}
    {%- for tool_call in message.tool_calls or [] %}
      {%- if content or not loop.first %}{{ '\\n' }}{% endif %}
      {%- if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}
      {{- '<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
      {%- if tool_call.arguments is string %}
        {{- tool_call.arguments }}
      {%- else %}
        {{- tool_call.arguments | tojson }}
      {%- endif %}
      {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
  """
    + QWEN_TOOL_RESULT
    + """
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
  {%- endif %}
{%- endif %}
"""
)
