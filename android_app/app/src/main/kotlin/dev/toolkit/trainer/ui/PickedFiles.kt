package dev.toolkit.trainer.ui

import android.net.Uri
import android.os.Bundle
import android.util.Log
import android.view.View
import android.view.ViewGroup
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.chats.Choices
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.Screen.Companion.message

/**
 * The files that were picked or shared: their rows on the screen, what each of them is, and what is to be said of it.
 *
 * @param changed called when files came or went, or something was said of them
 */
class PickedFiles(private val screen: Screen, saved: Bundle?, private val changed: () -> Unit) {
    /** LATER: there was no memory to look at it beside a run. */
    private enum class Look { ASKED, QUEUED, BUSY, LATER, DONE }

    private class Picked(var file: Document, val row: View, val answers: Answers, var look: Look = Look.ASKED, var found: Inspected? = null)

    private val app = TrainerApp.of(screen)
    private val picked = LinkedHashMap<Uri, Picked>()
    private val rows = screen.requireViewById<ViewGroup>(R.id.files)
    private val kept = saved
    private var next: () -> Unit = {}

    /** Each with what was said of it. */
    val all: List<Pair<Document, Choices>> get() = picked.values.map { it.file to it.answers.choices() }

    /** Why they cannot be read yet, or null: something is being looked at, cannot be learned, or has to be said. */
    fun missing(): String? {
        val files = picked.values
        val busy = files.count { it.look < Look.LATER }
        files.firstOrNull { it.look < Look.LATER }?.let { return screen.getString(R.string.files_looking, files.size - busy + 1, files.size) }
        files.firstOrNull { it.found?.problem != null }?.let { return screen.getString(R.string.files_remove, it.file.name) }
        val open = files.firstOrNull { file -> file.found?.let { !file.answers.areComplete(it) } == true } ?: return null
        return screen.getString(if (open.found!!.format.isChat) R.string.files_who else R.string.files_columns, open.file.name)
    }

    /** Takes in again what was picked; the permission to read it lasts as long as this task, so its address is enough. */
    fun restore(state: Bundle?) = add(state?.getStringArrayList(PICKED).orEmpty().map(Uri::parse))

    fun save(state: Bundle) {
        state.putStringArrayList(PICKED, ArrayList(picked.keys.map { it.toString() }))
        for ((uri, one) in picked) state.putStringArray("$PICKED $uri", one.answers.save())
    }

    fun add(uris: List<Uri>) {
        // Only what the picker gives: a file address could lead to the app's own files.
        val fresh = uris.filter { it.scheme == "content" && it !in picked }.distinct()
        if (picked.size + fresh.size > MOST_FILES) screen.tell(screen.getString(R.string.too_many_files, MOST_FILES))
        val taken = fresh.take(MOST_FILES - picked.size)
        if (taken.isEmpty()) return
        for (uri in taken) {
            val row = screen.layoutInflater.inflate(R.layout.item_file, rows, false)
            rows.addView(row)
            picked[uri] = Picked(Document.of(uri), row, Answers.restored(kept?.getStringArray("$PICKED $uri")))
            row.requireViewById<View>(R.id.delete).setOnClickListener { remove(uri) }
        }
        show()
        screen.inBackground({ taken.map { Document.describe(app.contentResolver, it) } }) { described ->
            for (file in described) picked[file.uri]?.run {
                this.file = file
                look = Look.QUEUED
            }
            lookAtNext()
        }
    }

    private fun remove(uri: Uri) {
        rows.removeView(picked.remove(uri)?.row)
        adopt()
        show()
    }

    fun clear() {
        picked.clear()
        rows.removeAllViews()
        show()
    }

    /** Looks at what there was no memory for, then does [next]. False where there is nothing to look at. */
    fun look(next: () -> Unit): Boolean {
        val fresh = picked.values.filter { it.look == Look.LATER && crowded(neededMb(it.file)) == null }
        if (fresh.isEmpty()) return false
        fresh.forEach { it.look = Look.QUEUED }
        this.next = next
        lookAtNext()
        return true
    }

    /**
     * Looks at all of a file, for a chat has to say who speaks; one after the other, and as far as there is memory for it beside a
     * run. Ends with the screen.
     */
    private fun lookAtNext() {
        if (picked.values.any { it.look == Look.BUSY }) return show()
        val queued = picked.values.filter { it.look == Look.QUEUED }
        val one = queued.firstOrNull { crowded(neededMb(it.file)) == null }
        queued.takeWhile { it !== one }.forEach { it.look = Look.LATER }
        one?.look = Look.BUSY
        show()
        if (one == null) return then()
        screen.inBackground({ inspected(one.file) }) { found ->
            one.found = found
            one.look = Look.DONE
            choices(one, found)
            adopt()
            lookAtNext()
        }
    }

    private fun then() {
        val act = next
        next = {}
        act()
    }

    private fun choices(one: Picked, found: Inspected) = FileChoices(one.row, one.answers) {
        adopt()
        changed()
    }.show(found)

    /**
     * Who somebody is in one chat, the same one is in the others in which nothing was said, for as long as it is said there. Where that
     * would be two people, it has to be said.
     */
    private fun adopt() {
        val said = picked.values.filter { it.answers.isOwn }.mapNotNull { it.answers.me }.toSet()
        for (one in picked.values) {
            val found = one.found ?: continue
            val me = found.speakers.map { it.id }.filter { it in said }.singleOrNull()
            if (one.answers.isOwn || one.answers.me == me) continue
            one.answers.me = me
            choices(one, found)
        }
    }

    private fun inspected(file: Document): Inspected = try {
        Inspected.of(file.read(app) { screen.isDestroyed })
    } catch (error: AppException) {
        Inspected.failed(error.message.orEmpty())
    } catch (_: OutOfMemoryError) {
        Inspected.failed(screen.getString(R.string.text_memory))
    } catch (error: Throwable) {
        Log.w("toolkit", "a file that cannot be looked at", error)
        Inspected.failed(screen.getString(R.string.unexpected, error.toString()))
    }

    /** Why there is no room for so much beside the run that trains, or null: the system may have to end the app and its run. */
    fun crowded(needMb: Long = NEEDED_MB): String? {
        val training = app.controller.active?.takeIf { it.doing != Doing.WAITING } ?: return null
        val now = app.conditions.read()
        return if (now.lowMemory || now.freeMb < needMb) screen.getString(R.string.text_beside_run, training.name, now.freeMb) else null
    }

    /** Of a file as it is parsed; what does not say its size may have the largest. */
    private fun neededMb(file: Document): Long {
        val largest = TextData.LARGEST_FILE.toLong()
        return NEEDED_MB * (if (file.bytes > 0) file.bytes.coerceAtMost(largest) else largest) / largest
    }

    private fun show() {
        for (one in picked.values) {
            one.row.requireViewById<TextView>(R.id.kept_name).text = one.file.name
            val what = when (one.look) {
                Look.DONE -> one.found?.words(screen)
                Look.BUSY -> screen.getString(R.string.import_begins)
                Look.LATER -> screen.getString(R.string.file_later)
                else -> screen.getString(R.string.file_waits)
            }
            one.row.requireViewById<TextView>(R.id.kept_details).text =
                listOfNotNull(what, if (one.file.bytes > 0) Numbers.bytes(one.file.bytes) else null).joinToString(" · ")
            one.row.requireViewById<TextView>(R.id.file_problem).message(one.found?.problem)
            one.row.requireViewById<View>(R.id.delete).contentDescription = screen.getString(R.string.remove_file, one.file.name)
        }
        changed()
    }

    private companion object {
        const val PICKED = "picked"
        const val MOST_FILES = 100

        /** Of a tokenizer with a large vocabulary and a file of the largest size. */
        const val NEEDED_MB = 400L
    }
}
