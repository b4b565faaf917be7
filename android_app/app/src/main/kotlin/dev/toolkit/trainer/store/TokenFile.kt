package dev.toolkit.trainer.store

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * Writes training data: a FlatTensor file (toolkit/bundle/flat_tensor_header.py describes the format) with the
 * int32 tensors tokens, labels, positions and start, each [sequences, length], then what tells the tokenizer
 * (toolkit/bundle/identity.py), then the sums of it all.
 */
class TokenFile(private val sequences: Int, private val length: Int, private val tokenizer: TokenizerName?) {
    private class Tensor(val name: String, val type: Byte, val sizes: IntArray, val offset: Long) {
        val bytes = sizes.fold(if (type == INT32) 4L else 1L) { product, size -> product * size }
        val end get() = offset + bytes
    }

    /** Writes the file; [rows] has the four tensors of one sequence each, in the order of the names. */
    fun write(file: File, rows: List<Array<IntArray>>) {
        require(rows.size == sequences && rows.all { row -> row.size == NAMES.size && row.all { it.size == length } })
        val texts = texts()
        val tensors = places(texts)
        val table = table(tensors)
        val base = aligned((HEAD + table.size).toLong())
        file.writeAtomically { stream ->
            val out = SummingOutput(stream)
            out.part { it(head(table, base, tensors.last().end)) }
            for ((index, tensor) in tensors.dropLast(2).withIndex()) {
                out.padTo(base + tensor.offset)
                out.part { write ->
                    if (index < NAMES.size) for (row in rows) write(bytesOf(row[index])) else write(texts.getValue(tensor.name))
                }
            }
            out.finish(base + tensors[tensors.size - 2].offset, base + tensors.last().offset)
        }
    }

    /** What tells the tokenizer, by the names of the tensors. */
    private fun texts(): Map<String, ByteArray> = tokenizer?.let {
        val digest = it.sha256.chunked(2).map { pair -> pair.toInt(16).toByte() }.toByteArray()
        mapOf("tokenizer.sha256" to digest, "tokenizer.name" to it.name.toByteArray().take(LONGEST_NAME).toByteArray())
    }.orEmpty()

    private fun places(texts: Map<String, ByteArray>): List<Tensor> {
        val tensors = mutableListOf<Tensor>()
        fun add(name: String, type: Byte, vararg sizes: Int, alignment: Long = ALIGNMENT) {
            tensors += Tensor(name, type, sizes, aligned(tensors.lastOrNull()?.end ?: 0, alignment))
        }
        for (name in NAMES) add(name, INT32, sequences, length)
        for ((name, bytes) in texts) add(name, UINT8, bytes.size)
        add("sha256", UINT8, 32, alignment = SUMS_ALIGNMENT)
        add("checksums", INT32, tensors.size + 2, alignment = SUMS_ALIGNMENT) // the head, all before, and these
        return tensors
    }

    private fun bytesOf(values: IntArray): ByteArray {
        val buffer = little(4 * values.size)
        for (value in values) buffer.putInt(value)
        return buffer.array()
    }

    /** Root offset, identifier and extended header; then the table, whose offsets are all relative. */
    private fun head(table: ByteArray, base: Long, segments: Long): ByteArray {
        val root = HEAD + ByteBuffer.wrap(table).order(ByteOrder.LITTLE_ENDIAN).getInt(0)
        val buffer = little(HEAD + table.size)
        buffer.putInt(root).put("FT01".toByteArray()).put("FH01".toByteArray()).putInt(EXTENDED)
        buffer.putLong(HEAD.toLong()).putLong(table.size.toLong()).putLong(base).putLong(segments)
        buffer.position(HEAD)
        return buffer.put(table).array()
    }

    /** The flatbuffer, laid out forwards: what refers stands before what it refers to. */
    private fun table(all: List<Tensor>): ByteArray {
        val out = little(4096)
        out.putInt(0).putInt(0)
        val root = out.table(intArrayOf(4, 8, 12), 16) // version, segments, tensors
        out.putInt(0, root)
        out.link(root + 8)
        out.putInt(all.size)
        val segments = out.places(all.size)
        for ((i, tensor) in all.withIndex()) {
            val segment = out.table(intArrayOf(8, 16), 24, alignment = 8) // offset, bytes
            out.putLong(segment + 8, tensor.offset).putLong(segment + 16, tensor.bytes)
            out.putInt(segments + 4 * i, segment - (segments + 4 * i))
        }
        out.align(4)
        out.link(root + 12)
        out.putInt(all.size)
        val tensors = out.places(all.size)
        for ((i, tensor) in all.withIndex()) {
            out.align(4)
            val named = out.table(intArrayOf(4, 8, 12), 16) // key, segment, layout
            out.putInt(tensors + 4 * i, named - (tensors + 4 * i)).putInt(named + 8, i)
            out.link(named + 4)
            out.putInt(tensor.name.length).put(tensor.name.toByteArray()).put(0)
            out.align(4)
            layout(out, named + 12, tensor)
        }
        return out.array().copyOf((out.position() + 7) / 8 * 8)
    }

    private fun layout(out: ByteBuffer, from: Int, tensor: Tensor) {
        val layout = out.table(intArrayOf(4, 8, 12), 16) // type, sizes, order of dimensions
        out.putInt(from, layout - from)
        out.put(layout + 4, tensor.type)
        out.link(layout + 8)
        out.putInt(tensor.sizes.size)
        for (size in tensor.sizes) out.putInt(size)
        out.link(layout + 12)
        out.putInt(tensor.sizes.size)
        for (dimension in tensor.sizes.indices) out.put(dimension.toByte())
        out.align(4)
    }

    /** Appends a vtable with its table of [size] bytes, zeroed, and returns the table's position. */
    private fun ByteBuffer.table(fields: IntArray, size: Int, alignment: Int = 4): Int {
        val vtable = 4 + 2 * fields.size
        while ((position() + vtable) % alignment != 0) put(0)
        val start = position()
        putShort(vtable.toShort()).putShort(size.toShort())
        for (field in fields) putShort(field.toShort())
        val table = position()
        putInt(table - start)
        repeat(size - 4) { put(0) }
        return table
    }

    private fun ByteBuffer.link(from: Int) = putInt(from, position() - from)

    private fun ByteBuffer.places(count: Int): Int = position().also { repeat(count) { putInt(0) } }

    private fun ByteBuffer.align(to: Int) {
        while (position() % to != 0) put(0)
    }

    private companion object {
        val NAMES = listOf("tokens", "labels", "positions", "start")
        const val ALIGNMENT = 16384L
        const val SUMS_ALIGNMENT = 64L
        const val LONGEST_NAME = 200
        const val HEAD = 48
        const val EXTENDED = 40
        const val INT32: Byte = 3
        const val UINT8: Byte = 0

        fun aligned(value: Long, alignment: Long = ALIGNMENT): Long = (value + alignment - 1) / alignment * alignment

        fun little(size: Int): ByteBuffer = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)
    }
}
