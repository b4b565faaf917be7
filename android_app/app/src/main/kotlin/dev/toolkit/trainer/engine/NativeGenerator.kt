package dev.toolkit.trainer.engine

import org.json.JSONObject

/** The functions of libtoolkit_jni.so (toolkit/runtime/hosts/jni/generators.cc); [NativeHost] is the way to use them. */
internal object NativeGenerator {
    @JvmStatic external fun open(options: ByteArray): Long

    @JvmStatic external fun set(generator: Long, options: ByteArray)

    /** Returns the finished reply as JSON in UTF-8. */
    @JvmStatic external fun reply(generator: Long, prompt: IntArray, listener: TokenListener): ByteArray

    @JvmStatic external fun close(generator: Long)
}

/** A model in the app's own process. */
internal class NativeModel(private val number: Long) : Generator {
    override fun set(options: Map<String, String>) = NativeGenerator.set(number, NativeHost.packed(options))

    override fun reply(prompt: IntArray, listener: TokenListener): Reply =
        Reply.of(JSONObject(String(NativeGenerator.reply(number, prompt, listener), Charsets.UTF_8)))

    override fun close() = NativeGenerator.close(number)
}
