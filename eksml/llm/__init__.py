"""What both batches and serving need of vLLM and of a language model's files.

``installed`` is the vLLM that is there, ``engine_arguments`` what may be said to it,
``model_folder`` where a model's files are, ``lora`` what adapters need, and ``lifeline`` sees that
no engine outlives its process.
"""
