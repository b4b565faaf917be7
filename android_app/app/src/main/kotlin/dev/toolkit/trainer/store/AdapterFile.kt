package dev.toolkit.trainer.store

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import java.io.EOFException
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONException
import org.json.JSONObject

/** A run's adapter, adapter_model.safetensors as `peft` reads it, for the engine that takes .ptd. */
class AdapterFile(private val source: File) {
    private class Place(val name: String, val sizes: IntArray, val begin: Long) {
        val bytes = sizes.fold(4L) { product, size -> product * size }
    }

    /**
     * Writes it as .ptd to [target].
     *
     * @throws AppException there is none, or it is damaged
     */
    fun writeTo(target: File) = open { FlatTensorFile(it).write(target) }

    /**
     * Lets [use] read the tensors, in the order of the file.
     *
     * @throws AppException there is none, or it is damaged
     */
    fun <T> open(use: (List<FlatTensor>) -> T): T {
        try {
            return RandomAccessFile(source, "r").use { file ->
                use(places(file).map { place -> FlatTensor(place.name, FlatTensorFile.FLOAT32, place.sizes) { write -> copy(file, place, write) } })
            }
        } catch (error: IOException) {
            throw AppException(Words.of(R.string.adapter_unreadable, error.message.orEmpty()), error)
        } catch (error: JSONException) {
            throw AppException(Words.of(R.string.adapter_unreadable, error.message.orEmpty()), error)
        }
    }

    /** The tensors in the order of the file; what stands before the layer in their names is the whole model's. */
    private fun places(file: RandomAccessFile): List<Place> {
        val head = ByteArray(8).also(file::readFully)
        val length = ByteBuffer.wrap(head).order(ByteOrder.LITTLE_ENDIAN).long
        if (length !in 2..minOf(LARGEST_HEADER, file.length())) throw IOException("header of $length bytes")
        val json = JSONObject(String(ByteArray(length.toInt()).also(file::readFully), Charsets.UTF_8))
        return json.keys().asSequence().filter { it != "__metadata__" }.map { name ->
            val tensor = json.getJSONObject(name)
            if (tensor.getString("dtype") != "F32") throw IOException("$name is ${tensor.getString("dtype")}")
            val shape = tensor.getJSONArray("shape")
            val begin = 8 + length + tensor.getJSONArray("data_offsets").getLong(0)
            val place = Place(name.substring(name.indexOf(LAYERS).coerceAtLeast(0)), IntArray(shape.length()) { shape.getInt(it) }, begin)
            if (begin < 8 + length || begin + place.bytes > file.length()) throw IOException("it ends within $name")
            place
        }.sortedBy { it.begin }.toList()
    }

    private fun copy(file: RandomAccessFile, place: Place, write: (ByteArray) -> Unit) {
        file.seek(place.begin)
        var left = place.bytes
        val chunk = ByteArray(1 shl 16)
        while (left > 0) {
            val count = file.read(chunk, 0, minOf(chunk.size.toLong(), left).toInt())
            if (count < 0) throw EOFException(place.name)
            write(if (count == chunk.size) chunk else chunk.copyOf(count))
            left -= count
        }
    }

    private companion object {
        const val LARGEST_HEADER = 16L shl 20
        const val LAYERS = "layers."
    }
}
