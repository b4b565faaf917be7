"""OLMo 2: norms stand behind attention and MLP, q and k are normed as a whole."""

from toolkit.families.family import Family, Gguf
from toolkit.families.parts import gated_mlp, normed_attention, rms_norm

FAMILY = Family(
    model_type="olmo2",
    modeling="transformers.models.olmo2.modeling_olmo2",
    layer="Olmo2DecoderLayer",
    parts={"Olmo2Attention": normed_attention, "Olmo2MLP": gated_mlp, "Olmo2RMSNorm": rms_norm},
    gguf=Gguf(own_head=True),
)
