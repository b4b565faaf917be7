package dev.toolkit.trainer.store

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A tensor to be written; [write] hands its bytes on, in as many pieces as it likes. */
class FlatTensor(val name: String, val type: Byte, val sizes: IntArray, val write: ((ByteArray) -> Unit) -> Unit)

/**
 * Writes a FlatTensor file (toolkit/bundle/flat_tensor_header.py describes the format), with the sums of it all behind the
 * tensors (toolkit/bundle/checksums.py).
 */
class FlatTensorFile(private val content: List<FlatTensor>) {
    private class Tensor(val name: String, val type: Byte, val sizes: IntArray, val offset: Long) {
        val bytes = sizes.fold(if (type == UINT8) 1L else 4L) { product, size -> product * size }
        val end get() = offset + bytes
    }

    /** Writes the file, which appears when it is complete. */
    fun write(file: File) {
        val tensors = places()
        val table = table(tensors)
        val base = aligned((HEAD + table.size).toLong())
        file.writeAtomically { stream ->
            val out = SummingOutput(stream)
            out.part { it(head(table, base, tensors.last().end)) }
            for ((tensor, own) in tensors.zip(content)) {
                out.padTo(base + tensor.offset)
                out.part(own.write)
            }
            out.finish(base + tensors[tensors.size - 2].offset, base + tensors.last().offset)
        }
    }

    private fun places(): List<Tensor> {
        val tensors = mutableListOf<Tensor>()
        fun add(name: String, type: Byte, sizes: IntArray, alignment: Long = ALIGNMENT) {
            tensors += Tensor(name, type, sizes, aligned(tensors.lastOrNull()?.end ?: 0, alignment))
        }
        for (tensor in content) add(tensor.name, tensor.type, tensor.sizes)
        add("sha256", UINT8, intArrayOf(32), SUMS_ALIGNMENT)
        add("checksums", INT32, intArrayOf(tensors.size + 2), SUMS_ALIGNMENT) // the head, all before, and these
        return tensors
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
        val out = little(1024 + all.size * LARGEST_ENTRY)
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

    companion object {
        const val INT32: Byte = 3
        const val FLOAT32: Byte = 6
        const val UINT8: Byte = 0
        private const val ALIGNMENT = 16384L
        private const val SUMS_ALIGNMENT = 64L
        private const val HEAD = 48
        private const val EXTENDED = 40

        /** Bytes of a tensor in the table, with the longest name that a layer's has. */
        private const val LARGEST_ENTRY = 512

        private fun aligned(value: Long, alignment: Long = ALIGNMENT): Long = (value + alignment - 1) / alignment * alignment

        private fun little(size: Int): ByteBuffer = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN)
    }
}
