package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.sqrt
import org.json.JSONException
import org.json.JSONObject

private const val CONFIG_LIMIT = 4L shl 20

/**
 * A run's adapter as llama.cpp reads it, byte for byte as `toolkit convert` writes it (toolkit/exchange/gguf_adapter.py): A and B
 * of every weight under llama.cpp's names, and one alpha for all; B is multiplied by what alpha / R lacks.
 */
class GgufFile(private val run: Run, private val bundle: Bundle) {
    private val lora = settings(File(run.best.parentFile, CONFIG).takeIf(File::isFile) ?: File(run.folder, CONFIG))
    private val config = settings(File(bundle.folder, "config.json"))
    private val family = config.optString("model_type")

    /** What is written of a tensor; [write] as that of [FlatTensor]. */
    private class Entry(val name: String, val sizes: IntArray, val write: ((ByteArray) -> Unit) -> Unit) {
        val bytes get() = sizes.fold(4L) { product, size -> product * size }
    }

    /**
     * Writes it to [target].
     *
     * @throws AppException llama.cpp has no such model or weight, or the adapter is damaged
     */
    fun writeTo(target: File) {
        val architecture = ARCHITECTURES[family] ?: throw AppException(Words.of(R.string.gguf_unknown, bundle.model))
        AdapterFile(run.best).open { tensors ->
            val entries = tensors.map(::entry)
            target.writeAtomically { stream ->
                val head = head(architecture, entries)
                stream.write(head)
                stream.write(ByteArray(padding(head.size.toLong())))
                for (entry in entries) {
                    entry.write { stream.write(it) }
                    stream.write(ByteArray(padding(entry.bytes)))
                }
            }
        }
    }

    private fun entry(tensor: FlatTensor): Entry {
        // layers.N.self_attn.q_proj.lora_A.weight
        val parts = tensor.name.split('.')
        val target = parts.getOrElse(parts.size - 3) { "" }
        val stored = NAMES[target] ?: throw AppException(Words.of(R.string.gguf_unknown, tensor.name))
        val isA = parts[parts.size - 2] == "lora_A"
        val name = "blk.${parts[1]}.$stored.weight.${if (isA) "lora_a" else "lora_b"}"
        return Entry(name, tensor.sizes, if (isA) tensor.write else { write -> write(rows(tensor, target)) })
    }

    /** B with its rows in the order that llama.cpp has, times what alpha / R lacks. */
    private fun rows(tensor: FlatTensor, target: String): ByteArray {
        val content = ByteArrayOutputStream().also { out -> tensor.write(out::write) }.toByteArray()
        val (count, rank) = tensor.sizes
        val factor = missing(target, rank)
        val own = little(content)
        if (factor != 1.0) for (i in 0 until count * rank) own.putFloat(4 * i, own.getFloat(4 * i) * factor.toFloat())
        val heads = when (target) {
            "q_proj" -> config.optInt("num_attention_heads")
            "k_proj" -> config.optInt("num_key_value_heads", config.optInt("num_attention_heads"))
            else -> 0
        }
        if (heads == 0 || family !in PAIRED) return content
        // The rows of a head are stored so that rotated pairs are neighbours.
        val ordered = ByteArray(content.size)
        val half = count / heads / 2
        for (row in 0 until count) {
            val (head, within) = row / (2 * half) to row % (2 * half)
            val to = head * 2 * half + within % half * 2 + within / half
            System.arraycopy(content, 4 * rank * row, ordered, 4 * rank * to, 4 * rank)
        }
        return ordered
    }

    private fun missing(target: String, rank: Int): Double {
        val all = lora.getDouble("lora_alpha")
        val alpha = lora.optJSONObject("alpha_pattern")?.optDouble(target, all) ?: all
        val divisor = if (lora.optBoolean("use_rslora")) sqrt(rank.toDouble()) else rank.toDouble()
        return alpha / divisor * rank / all
    }

    private fun head(architecture: String, entries: List<Entry>): ByteArray {
        val base = lora.optString("base_model_name_or_path")
        val hub = HUB_ID.matches(base)
        val name = if (hub) base else bundle.model
        val facts = Bytes()
        facts.text("general.architecture", architecture).text("general.type", "adapter").text("adapter.type", "lora")
        facts.put("adapter.lora.alpha", FLOAT) { putFloat(lora.getDouble("lora_alpha").toFloat()) }
        facts.text("general.name", "$name ${run.name}")
        facts.put("general.base_model.count", UINT) { putInt(1) }
        facts.text("general.base_model.0.name", name)
        if (hub) facts.text("general.base_model.0.organization", base.substringBefore('/'))
        val out = Bytes()
        out.number(8 + 16) { put("GGUF".toByteArray()).putInt(VERSION).putLong(entries.size.toLong()).putLong(facts.keys.toLong()) }
        out.write(facts.toByteArray())
        var offset = 0L
        for (entry in entries) {
            out.words(entry.name)
            out.number(4) { putInt(entry.sizes.size) }
            for (size in entry.sizes.reversed()) out.number(8) { putLong(size.toLong()) }
            out.number(12) { putInt(FLOAT32).putLong(offset) }
            offset += entry.bytes + padding(entry.bytes)
        }
        return out.toByteArray()
    }

    /** Keys and values of the file's head. */
    private class Bytes : ByteArrayOutputStream() {
        var keys = 0
            private set

        fun number(size: Int, fill: ByteBuffer.() -> Unit) = write(little(ByteArray(size)).apply(fill).array())

        fun words(text: String) {
            val bytes = text.toByteArray()
            number(8) { putLong(bytes.size.toLong()) }
            write(bytes)
        }

        fun put(key: String, type: Int, value: ByteBuffer.() -> Unit) {
            keys++
            words(key)
            number(8) { putInt(type).value() }
        }

        fun text(key: String, value: String): Bytes {
            keys++
            words(key)
            number(4) { putInt(STRING) }
            words(value)
            return this
        }
    }

    companion object {
        private const val CONFIG = "adapter_config.json"
        private const val VERSION = 3
        private const val UINT = 4
        private const val FLOAT = 6
        private const val STRING = 8
        private const val FLOAT32 = 0
        private const val ALIGNMENT = 32
        private val HUB_ID = Regex("[A-Za-z0-9][\\w.-]*/[A-Za-z0-9][\\w.-]*")

        /** What llama.cpp calls the families, by their model_type. */
        private val ARCHITECTURES = mapOf(
            "gemma3_text" to "gemma3", "granite" to "granite", "llama" to "llama", "olmo2" to "olmo2", "phi3" to "phi3",
            "qwen2" to "qwen2", "qwen3" to "qwen3", "smollm3" to "smollm3",
        )

        /** Families whose rotated pairs llama.cpp stores as neighbours. */
        private val PAIRED = setOf("granite", "llama", "smollm3")

        /** What llama.cpp calls the projections. */
        private val NAMES = mapOf(
            "q_proj" to "attn_q", "k_proj" to "attn_k", "v_proj" to "attn_v", "qkv_proj" to "attn_qkv", "o_proj" to "attn_output",
            "gate_proj" to "ffn_gate", "up_proj" to "ffn_up", "gate_up_proj" to "ffn_up", "down_proj" to "ffn_down",
        )

        private fun padding(size: Long): Int = ((ALIGNMENT - size % ALIGNMENT) % ALIGNMENT).toInt()

        private fun little(bytes: ByteArray): ByteBuffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN)

        private fun settings(file: File): JSONObject = try {
            JSONObject(file.readTextUpTo(CONFIG_LIMIT) ?: throw AppException(Words.of(R.string.gguf_config, file.name)))
        } catch (error: JSONException) {
            throw AppException(Words.of(R.string.gguf_config, file.name), error)
        }
    }
}
