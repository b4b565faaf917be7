package dev.toolkit.trainer.service

import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.chats.ChatEncoder
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.engine.Generator
import dev.toolkit.trainer.engine.Reply
import dev.toolkit.trainer.store.AdapterFile
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.ASKED
import dev.toolkit.trainer.store.Bundle
import dev.toolkit.trainer.store.deleteTree
import dev.toolkit.trainer.tokenizer.Detokenizer
import dev.toolkit.trainer.tokenizer.TokenizerFile
import dev.toolkit.trainer.ui.Errand
import java.io.File
import java.util.concurrent.CopyOnWriteArraySet

/** Which model answers. */
enum class Side { BEFORE, AFTER }

/** An answer as far as it has come; [reply] once it is finished. */
class Answer(val text: String, val reply: Reply? = null)

/** A question to a model before and after a run trained it: it outlives its screen, and is told how far the answers are. */
class Asking(private val app: TrainerApp) {
    /** What was asked last: the run and the prompt. */
    @Volatile var question: Pair<String, String>? = null
        private set

    /** Whether it was a message of a chat. */
    @Volatile var inChat = true
        private set

    @Volatile private var answers = emptyMap<Side, Answer>()

    @Volatile private var stopped = false
    private val listeners = CopyOnWriteArraySet<() -> Unit>()

    /** Told why there is no answer; empty when there is one. */
    val errand = Errand { if (it is OutOfMemoryError) Words.of(R.string.app_memory) else Words.of(R.string.unexpected, it.toString()) }

    fun answer(side: Side): Answer? = answers[side]

    /** Called on any thread with every token. */
    fun addListener(listener: () -> Unit) = listeners.add(listener)

    fun removeListener(listener: () -> Unit) = listeners.remove(listener)

    /** Asks, unless something is asked already; [asChat] as a message, in the model's chat template. On the main thread. */
    fun ask(run: String, prompt: String, asChat: Boolean = false) {
        if (errand.running) return
        question = run to prompt
        inChat = asChat
        answers = emptyMap()
        stopped = false
        errand.begin({ listeners.forEach { it() } }) {
            try {
                answer(run, prompt, asChat)
                ""
            } catch (error: AppException) {
                error.message.orEmpty()
            } catch (error: EngineException) {
                error.message.orEmpty().replaceFirstChar(Char::uppercase)
            }
        }
    }

    /** What was asked and answered is somebody's own. */
    fun forget() {
        question = null
        answers = emptyMap()
    }

    /** Ends the answers where they are. */
    fun stop() {
        stopped = true
    }

    private fun answer(name: String, prompt: String, asChat: Boolean) {
        val run = app.runs.require(name)
        if (!run.best.isFile) throw AppException(Words.of(R.string.no_adapter_yet, name))
        val bundle = app.bundles.require(run.bundle)
        val file = TokenizerFile(bundle.folder)
        val tokenizer = file.read()
        val chat = if (asChat) file.chatTemplate()?.let { ChatEncoder(file, tokenizer, it) } else null
        val tokens = chat?.prompt(listOf(mapOf("role" to "user", "content" to prompt))) ?: tokenizer.encode(prompt)
        if (tokens.isEmpty()) throw AppException(Words.of(R.string.ask_empty))
        val scratch = File(app.cacheDir, ASKED)
        app.controller.lend { guest ->
            try {
                val adapter = File(scratch, "adapter.ptd")
                AdapterFile(run.best).writeTo(adapter)
                guest.whenWanted { stop() }
                Engine.generator(options(bundle)).use { model ->
                    model.set(CHOOSING + ends(file, bundle, chat))
                    for (side in Side.entries) {
                        if (stopped) break
                        model.set(mapOf("adapter" to if (side == Side.BEFORE) "none" else adapter.path))
                        write(side, model, tokens, file.detokenizer())
                    }
                }
            } finally {
                scratch.deleteTree()
            }
            if (guest.isWanted) throw AppException(Words.of(R.string.ask_ended))
        }
    }

    private fun options(bundle: Bundle) =
        mapOf("bundle" to bundle.folder.path, "adapter" to "none", "threads" to app.policy.read().threads.toString())

    /** The tokens that end a reply. */
    private fun ends(file: TokenizerFile, bundle: Bundle, chat: ChatEncoder?): Map<String, String> {
        val ends = (listOfNotNull(file.endToken()) + bundle.endTokens + listOfNotNull(chat?.endOfReply())).distinct().filter { it in 0 until bundle.vocabulary }
        return if (ends.isEmpty()) emptyMap() else mapOf("stop-tokens" to ends.joinToString(","))
    }

    private fun write(side: Side, model: Generator, tokens: IntArray, writer: Detokenizer) {
        val text = StringBuilder()
        fun show(more: String, reply: Reply? = null) {
            text.append(more)
            answers = answers + (side to Answer(text.toString(), reply))
            listeners.forEach { it() }
        }
        show("")
        val reply = model.reply(tokens) { token ->
            if (token >= 0) show(writer.add(token))
            !stopped
        }
        show(writer.rest(), reply)
    }

    companion object {
        /** As `toolkit generate` chooses by itself, with the same seed for both. */
        val CHOOSING = mapOf("max-tokens" to "128", "temperature" to "0.7", "top-p" to "0.95", "seed" to "0")
    }
}
